"""Training of the mapper: data from experts, loop, losses, checkpoints, calibration."""
