"""Processes: started in one way (forked from the nursery), watched and ended by their own handle (a pidfd)."""
