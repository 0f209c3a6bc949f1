"""Turns decoded pixels into the arrays that a model takes, written into a slot."""
