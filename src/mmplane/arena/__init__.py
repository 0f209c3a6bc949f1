"""The arena: shared memory that one process owns, workers fill in place, and every rank maps.

`allocator`, `region`, `leases` and `arena` are pure bookkeeping: they handle offsets and counts, and touch no byte.
They live in the front end, the only owner. `segment` is the only file that calls memfd and mmap.
"""
