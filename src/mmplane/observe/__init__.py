"""Observability: what happened to requests, how long it took, and how to look at it."""
