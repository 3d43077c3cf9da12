"""The timeline of a work item: events, diagnosis, live feeds."""
