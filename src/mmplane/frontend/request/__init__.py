"""Incoming requests: bodies, their parsing, and media parts as bytes and keys."""
