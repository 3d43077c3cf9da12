"""The model of the contract. Imports nothing from the product."""
