"""Timers and automatic clocks."""
