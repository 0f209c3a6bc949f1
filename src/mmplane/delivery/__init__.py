"""Deliveries: the ways to get a request's features to all ranks. Each is one file behind the same contract."""
