"""Developer commands; run each with `python -m tools.<name>`."""
