"""What the tensors of a checkpoint are: their roles, and which of them are masks."""
