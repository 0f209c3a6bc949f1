"""The computation on one rank: its share of the model, and the memory that plans fill and free."""
