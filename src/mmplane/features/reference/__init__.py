"""What transformers and torch compute: the generic path, and the reference for the fast ones."""
