"""The parts that sequence models are made of."""
