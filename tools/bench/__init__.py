"""The tool `scripts/bench`."""
