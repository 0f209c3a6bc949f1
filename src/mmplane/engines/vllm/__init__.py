"""vLLM: features of a real vLLM server in a sidecar's arena, without a fork. Only these files import vLLM.

    launcher    starts the sidecar before any process is started, and logs whether the plugin is on
    cache       processed items, in an API server: their large tensors go into the arena
    frontend    takes a lease for each message to an engine
    core        ends the leases of requests that no worker will see
    rank        turns records into tensors over the arena
    held        an item in the arena, and the record that travels in its place

`plugin` wraps vLLM's functions (`hooks`) in each of its processes.
"""
