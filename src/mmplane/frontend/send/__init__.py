"""Sending to the ranks: the choice of the delivery, preparing items, requests out and tokens in."""
