"""The library: the arena in somebody else's engine. A producer's `Plane`, a rank's `Inbox`, an `Address` for both.

Nothing here imports torch or NumPy: arrays are made by whichever of them the caller hands in.
"""
