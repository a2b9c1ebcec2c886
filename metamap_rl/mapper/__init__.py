"""The mapper: network, config, files, self-check."""
