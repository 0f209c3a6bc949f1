"""What transformers and torch themselves compute: the generic path, and what the fast ones are compared with."""
