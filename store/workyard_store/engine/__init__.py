"""Redis and the embedded engine: connections, batching, Cluster, Lua scripts. The only package that imports redis."""
