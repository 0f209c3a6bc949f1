"""The wire: records over UNIX sockets between processes that trust each other's version and nothing else."""
