"""Media machines: machines with CPUs that make features for a server. No Ray, no routing."""
