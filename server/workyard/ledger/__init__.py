"""The ledger of behaviour rules."""
