"""HTTP: limits of connections, access checks, routes, replies."""
