"""Environments: one task family per file, registered next to its definition."""
