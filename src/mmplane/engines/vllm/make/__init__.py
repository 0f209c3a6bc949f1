"""`make`: vLLM's features come from a sidecar. Nothing is decoded or processed in its API process.

    begin       what the launcher and each API process call
    connector   an image's bytes arrive, in a thread of vLLM's: ask the sidecar, and hand on an unopened image
    image       that image: its size, its bytes, and the features once they are there
    maker       what asks the sidecar
    reasons     why vLLM makes an item itself, by kind
    processor   the model's own processor class, which finds the features made
    figures     what was made, in vLLM's `/metrics`
    plan        which models this covers, and what the sidecar has to make for them
    install     register both with vLLM

Where the model, the options or the file is not covered, vLLM's own code sees what it always sees. Both ends are
official interfaces: `MEDIA_CONNECTOR_REGISTRY` and `MULTIMODAL_REGISTRY.register_processor`. Should vLLM take a
processor's outputs as input (vllm#50160), `processor` becomes a parser of such inputs, and the rest stays.
"""
