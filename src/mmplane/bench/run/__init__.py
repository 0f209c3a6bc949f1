"""Servers under load: start, switch, send in turns, and measure from outside."""
