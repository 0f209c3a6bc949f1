"""The pure core: records, keys, plans, tables and errors. No I/O, no clock, no torch."""
