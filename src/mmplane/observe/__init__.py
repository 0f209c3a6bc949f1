"""Observe: what requests did, how long it took, and the ways to see it."""
