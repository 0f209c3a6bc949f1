"""The input of a run: workloads, their media, and the expected digests."""
