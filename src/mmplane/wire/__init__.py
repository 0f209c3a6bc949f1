"""Records over UNIX sockets, between processes that only trust each other to run the same version."""
