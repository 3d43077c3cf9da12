"""The tool `scripts/docs`."""
