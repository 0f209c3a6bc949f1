"""Media in, a leased item out, once however many ask. No HTTP, no ranks."""
