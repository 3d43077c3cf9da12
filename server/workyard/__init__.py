"""Workyard: a local emulator of the Environments and Work API of Claude Managed Agents. HTTP, CLI; no Redis command."""


def __getattr__(name: str) -> str:
    # Read on demand: importing `importlib.metadata` takes longer than all other imports of the command line.
    if name == "__version__":
        from importlib.metadata import version

        return version("workyard")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
