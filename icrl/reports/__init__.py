"""Results as JSON, page, terminal, TensorBoard and pictures."""
