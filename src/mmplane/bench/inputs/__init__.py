"""What a run sends: workloads, their media, and the digests that ranks must come to."""
