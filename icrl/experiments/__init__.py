"""Experiments: one recipe per file, in three sizes (smoke, cpu, paper)."""
