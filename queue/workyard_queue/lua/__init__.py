"""Lua scripts of the queue, and how they are bound to Python."""
