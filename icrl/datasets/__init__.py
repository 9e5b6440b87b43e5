"""Pretraining data: streams generated on the device, and the same data stored."""
