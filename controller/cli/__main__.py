"""`python -P -m controller.cli`: the command `potstill`."""

from controller.cli import main

main()
