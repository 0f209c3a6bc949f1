"""Turns media into leased items, each made once however many requests ask for it. No HTTP, no ranks."""
