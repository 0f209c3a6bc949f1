"""Media machines: CPU machines that make features for a server. No Ray, no routing."""
