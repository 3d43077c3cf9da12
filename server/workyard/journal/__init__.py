"""The journal of requests."""
