"""Adaptation of a policy to a new environment, and the bundled mappers."""
