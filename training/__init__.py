"""Training of the built-in model `tiny`: synthetic pictures, a training loop for the CPU, and its evaluation.

Nothing of this is in the package: what ships is its result, `src/mmplane/models/weights/`.
"""
