"""Text for a terminal: of bounded width, and without control characters. Imports nothing, so that commands start fast."""

from __future__ import annotations

#: The largest number of columns of a line.
WIDTH = 120


def truncate(text: str, width: int = WIDTH) -> str:
    """Return a text that a terminal shows on one line of at most *width* columns."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return printable if len(printable) <= width else printable[: width - 1] + "…"
