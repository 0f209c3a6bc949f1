"""What computes: the model's share on one rank, and the memory that a plan makes it fill or forget."""
