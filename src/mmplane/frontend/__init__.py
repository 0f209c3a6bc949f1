"""The front end: turns an HTTP request into a stream of tokens; owns the arena, the leases and admission."""
