"""One group of ranks over several machines: what stands for the ranks of the others, and what runs them there."""
