"""What tests share: small problems with known answers, tiny zoos and streams, waiting for processes."""
