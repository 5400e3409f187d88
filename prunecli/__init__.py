"""prunecli: surgery on model checkpoints."""
