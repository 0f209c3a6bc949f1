"""The fast processors, one family a file."""
