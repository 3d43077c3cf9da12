"""The tool `scripts/chaos`."""
