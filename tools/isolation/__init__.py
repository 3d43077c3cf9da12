"""The tool `scripts/isolation`."""
