"""Ranks: plans in, tokens out. Every rank runs the same pure schedule on the same plans."""
