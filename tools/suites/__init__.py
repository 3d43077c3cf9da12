"""The tool `scripts/suites`."""
