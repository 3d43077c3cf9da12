"""The work queue: the state machine of work items, their leases, and the long poll. No HTTP."""
