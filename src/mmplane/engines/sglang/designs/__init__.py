"""The designs of the five analyses inside SGLang: who builds a request's inputs, where, and with which collective.

Each has one file that implements `design.Design`. Nothing here imports SGLang: a design names the ordering and the
collectives of `mmplane.delivery` that it uses, and the work in the tokenizer process before.
`mmplane.engines.sglang.building` runs it.
"""
