"""The command line: one command in each file, and what they share."""
