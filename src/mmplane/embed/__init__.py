"""The library: the arena in another engine. A producer uses a `Plane`, a rank an `Inbox`, and both an `Address`.

Nothing here imports torch or NumPy: the caller passes the library that makes the arrays.
"""
