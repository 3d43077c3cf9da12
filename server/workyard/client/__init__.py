"""The HTTP client of the command line and of the test helpers."""
