"""SGLang: arena and content keys in a real SGLang server, without a fork. Only these files import SGLang.

    launcher    reserves the memory, before anything is started
    tokenizer   writes features into slots and identifies them, off the event loop; takes a lease for each message
    rank        turns a pointer into a tensor over the mapping, and confines a failure to its request
    processor/  pictures made by the sidecar
    designs/    the analyses' designs: who builds a request's inputs, with which collective
    building/   builds the inputs with the design that a request's message names

`plugin` registers the hooks (`hooks`), SGLang applies them, and the launcher checks that all of them were applied.
"""
