"""Registry, learning-rate schedule and statistics; this package knows nothing of the others."""
