"""Measurements without a server: decoding, transforms, pickles, handing features over."""
