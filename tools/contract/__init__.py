"""The tool `scripts/contract`."""
