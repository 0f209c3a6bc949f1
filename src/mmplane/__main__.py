"""`python -m mmplane`."""

from mmplane.cli import main

main()
