"""SGLang: the arena and content keys under a real SGLang server, no fork. The only files that import it.

    launcher    reserves the memory, before anything is started
    tokenizer   features into slots and their identity, off the event loop; a lease for each message
    rank        a pointer becomes a tensor over the mapping; a failure becomes that request's
    processor/  pictures made by the sidecar
    designs/    who builds a request's inputs, by which collective: the analyses' designs
    building/   the inputs built by the design that a request's message names

`plugin` registers the hooks (`hooks`), SGLang applies them, and the launcher looks whether they all took.
"""
