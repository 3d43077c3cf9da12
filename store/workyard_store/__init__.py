"""The bottom layer: Redis, keys, time, ids, and the records of environments and workspaces. No HTTP, no queue rules."""
