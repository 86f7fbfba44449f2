"""Training: the loop, optimizer, checkpoints and log."""
