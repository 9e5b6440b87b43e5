"""Environments that cannot run without an extra. None is registered: each is named as MODULE:CLASS."""
