"""The sidecar: `mmplane.items` as a process that others attach to. docs/protocol.md describes the socket."""
