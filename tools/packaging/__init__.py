"""The tool `scripts/packaging`."""
