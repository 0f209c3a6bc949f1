"""The arena: shared memory that one process owns, workers fill in place and every rank maps.

`allocator`, `region`, `leases` and `arena` are pure bookkeeping: offsets and counts, no byte is touched. They live in
the front end, the single owner. `segment` is the only file that knows memfd and mmap.
"""
