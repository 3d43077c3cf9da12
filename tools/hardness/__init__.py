"""The tool `scripts/hardness`."""
