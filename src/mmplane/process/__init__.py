"""Processes: all are forked from the nursery, and watched and ended through a pidfd."""
