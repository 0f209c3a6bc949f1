"""`make`: vLLM's features come from a sidecar. Nothing is decoded or processed in vLLM's API process.

    begin       called by the launcher and each API process
    connector   when an image's bytes arrive in a thread of vLLM's: asks the sidecar, and returns an unopened image
    image       the unopened image: its size, its bytes, and its features once they are there
    maker       asks the sidecar
    reasons     why vLLM makes an item itself
    processor   the model's own processor class, which uses the finished features
    figures     counts in vLLM's `/metrics`
    plan        the models that this covers, and what the sidecar has to make for them
    install     registers both with vLLM

If the model, the options or the file are not covered, vLLM's own code gets its usual input. Both ends are
official interfaces: `MEDIA_CONNECTOR_REGISTRY` and `MULTIMODAL_REGISTRY.register_processor`. If vLLM accepts a
processor's outputs as input one day (vllm#50160), `processor` becomes a parser of such inputs, and the rest stays.
"""
