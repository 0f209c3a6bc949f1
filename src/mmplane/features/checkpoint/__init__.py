"""Reads the settings of a checkpoint's processors from its files."""
