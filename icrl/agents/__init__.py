"""Agents: one algorithm per file, registered next to its definition."""
