"""Environments that need an extra. No registry lists them: they are named with their module, as MODULE:NAME."""
