"""`python -m workyard` is the command `workyard`."""

from .cli import main

if __name__ == "__main__":
    main()
