"""Tensors to tensors: encoders, heads and the inner loop, without any meta-learning."""
