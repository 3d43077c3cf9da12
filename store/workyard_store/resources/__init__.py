"""Agents, skills, memory stores and named scripts."""
