"""The fast processors, one file per family."""
