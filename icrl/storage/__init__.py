"""Files: the one publisher, checkpoints, the metrics log, the run folder."""
