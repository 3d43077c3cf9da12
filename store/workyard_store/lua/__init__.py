"""Lua scripts of the store."""
