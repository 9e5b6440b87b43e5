"""Sequence models: one per file, registered next to its definition."""
