"""The front end: one HTTP request in, one stream of tokens out; owner of the arena, the leases and admission."""
