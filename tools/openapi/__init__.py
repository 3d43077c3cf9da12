"""The tool `scripts/openapi`."""
