"""Objectives: what is predicted from what, and the loss; one per file."""
