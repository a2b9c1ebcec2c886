"""Policies as weight vectors: shape, batched application, normaliser, base policy, evaluation."""
