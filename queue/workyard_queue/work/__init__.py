"""The work queue: states, transitions, polling."""
