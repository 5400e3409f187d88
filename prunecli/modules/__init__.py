"""Live modules: pruning of `torch.nn.Module` in memory."""
