"""A request's multimodal inputs are built by the design that its message names.

choice      tokenizer: which design the next request takes; the name travels in its message
route       tokenizer: `PUT /mmplane/design` on SGLang's own HTTP server
step        rank: SGLang's functions that this goes around
building    rank: orders begun in the order of the messages; requests admitted, failed or held back
pending     what is being built, and what all ranks agree on; pure
ports       what a rank gives to `mmplane.delivery`
"""
