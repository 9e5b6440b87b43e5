"""Learning-history filters: one per file, each tells which stored histories pretraining sees and how often."""
