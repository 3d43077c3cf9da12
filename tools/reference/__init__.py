"""The tool `scripts/reference`."""
