"""The sidecar: `mmplane.items` as a process to which other processes attach. docs/protocol.md describes the socket."""
