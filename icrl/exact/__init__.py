"""Exact constants and solvers for bandits, float64 NumPy on the host: what simulations are held against."""
