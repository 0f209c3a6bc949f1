"""Requests to token ids beside a sidecar, over HTTP and without pixels: its render processes."""
