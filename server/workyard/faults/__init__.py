"""Fault rules and ready scenarios."""
