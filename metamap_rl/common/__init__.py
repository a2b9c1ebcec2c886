"""Registry, learning-rate schedule and statistics; imports none of the other packages."""
