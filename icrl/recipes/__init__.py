"""The machinery of experiments: data, variants, checks, runs."""
