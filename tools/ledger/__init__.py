"""The tool `scripts/ledger`."""
