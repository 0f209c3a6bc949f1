"""Numbers in, numbers out: compiled loops, resizes, tables, encodings. Knows no checkpoint."""
