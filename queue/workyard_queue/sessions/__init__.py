"""Sessions: records, turns, event streams."""
