"""HTTP in, HTTP out: limits of a connection, who may ask, routes, replies."""
