"""`python -m workyard` is the command `workyard`."""

from .cli.main import main

if __name__ == "__main__":
    main()
