"""The tool `scripts/compat`."""
