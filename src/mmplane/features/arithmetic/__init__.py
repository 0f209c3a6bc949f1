"""Pure numerics: compiled loops, resizes, tables, encodings. Knows no checkpoint."""
