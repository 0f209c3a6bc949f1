"""Builds a request's multimodal inputs with the design that its message names.

choice      tokenizer: chooses the design of the next request, whose message carries its name
route       tokenizer: `PUT /mmplane/design` on SGLang's own HTTP server
step        rank: wraps SGLang's functions
building    rank: starts orders in message order; requests are admitted, failed or held back
pending     what is being built, and what all ranks agree on; pure
ports       what a rank provides to `mmplane.delivery`
"""
