"""Requests and responses below the routes."""
