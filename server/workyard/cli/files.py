"""Reading the files that commands take, and reporting what is wrong with them in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from workyard_store.errors import InvalidRequest

#: An existing file, or `-` for standard input.
FILE = click.Path(exists=True, dir_okay=False, allow_dash=True)


def read_text(path: str) -> str:
    """Return the text of a file; `-` is standard input.

    Raises:
        click.ClickException: the file is not UTF-8.
        OSError: the file cannot be read.
    """
    try:
        with click.open_file(path, encoding="utf-8-sig") as file:
            return str(file.read())
    except UnicodeDecodeError:
        raise click.ClickException(f"{path}: not UTF-8") from None


@contextmanager
def file_errors() -> Iterator[None]:
    """Turn an error about files or their contents into one line for the user."""
    try:
        yield
    except InvalidRequest as error:
        raise click.ClickException(error.message) from None
    except OSError as error:
        raise click.ClickException(f"{error.filename}: {error.strerror}") from None
