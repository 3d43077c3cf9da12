"""Fault rules and predefined scenarios."""
