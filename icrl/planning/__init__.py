"""Exact values by dynamic programming: backward induction, Gittins indices, Beta bandits, divergences."""
