"""The render processes of a sidecar: they turn requests into token ids over HTTP, without pixels."""
