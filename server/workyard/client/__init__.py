"""The HTTP client of the command line and of the test helpers: `connection` and `calls`, and typed helpers above them."""
