"""vLLM: features in the arena of a sidecar under a real vLLM server, no fork. The only files that import it.

    launcher    begins the sidecar before any process is started, and says whether the plugin is on
    cache       processed items, in an API server: their large tensors go into the arena
    frontend    a lease for each message to an engine
    core        ends the leases of requests that no worker will see
    rank        records become tensors over the arena
    held        an item in the arena, and the record that travels in its place

`plugin` wraps vLLM's functions (`hooks`) in each of its processes.
"""
