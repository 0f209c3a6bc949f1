"""A run shown: pages, charts, tables. Nothing is measured or judged here."""
