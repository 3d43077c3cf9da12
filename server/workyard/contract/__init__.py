"""The OpenAPI documents: made, served, enforced."""
