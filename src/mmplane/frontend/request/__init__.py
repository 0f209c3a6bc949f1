"""What came in: bodies, their schema, media parts to bytes and keys."""
