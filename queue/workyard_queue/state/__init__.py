"""Reading and writing whole workspaces."""
