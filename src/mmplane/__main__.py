"""`python -m mmplane`."""

from mmplane.commands.main import main

main()
