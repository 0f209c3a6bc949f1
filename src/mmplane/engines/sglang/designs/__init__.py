"""The designs of the five analyses inside SGLang: who builds a request's inputs, where, and by which collective.

One file each, behind `design.Design`. Nothing here imports SGLang: a design names one of `mmplane.delivery`'s ways to
order work and collectives, and what is done in the tokenizer process before. `mmplane.engines.sglang.building` runs it.
"""
