"""Layouts in which others keep their data, one a file; ``icrl import --format NAME`` reads each of them."""
