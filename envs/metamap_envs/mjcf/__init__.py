"""Families of a user's own MJCF model, declared in YAML: observation, reward, ends and starts from lists of terms."""
