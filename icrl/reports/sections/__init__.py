"""One section of the report a file: its part of ``results.json``, the check, the tables and the figures."""
