"""The tool `scripts/mutants`."""
