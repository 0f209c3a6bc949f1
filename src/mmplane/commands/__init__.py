"""What an operator types: one command a file, and what they share."""
