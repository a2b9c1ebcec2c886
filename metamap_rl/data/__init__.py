"""Training data: feature rows, rollouts on disk, pairs (D, phi*), surveys."""
