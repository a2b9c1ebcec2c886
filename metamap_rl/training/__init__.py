"""Training of the mapper: loop, losses, checkpoints, data from experts, calibration."""
