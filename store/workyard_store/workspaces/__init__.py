"""Workspaces, their environments and credentials."""
