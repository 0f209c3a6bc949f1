"""Deliveries: the ways to get a request's features to all ranks, one file each, behind one contract."""
