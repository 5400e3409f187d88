"""Checkpoints in folders: shards with an index, and those of torch.distributed.checkpoint."""
