"""The pure core: records, plans, keys and errors. It does no I/O, reads no clock and does not import torch."""
