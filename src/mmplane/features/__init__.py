"""Features: decoded pixels to the arrays a model takes, written into a slot."""
