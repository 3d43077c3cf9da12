"""A workspace as a document."""
