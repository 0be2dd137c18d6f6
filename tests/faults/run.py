"""`potstill` as a module, so that a fork server can run it."""

from controller.cli import main

if __name__ == "__main__":
    main()
