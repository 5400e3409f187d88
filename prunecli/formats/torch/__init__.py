"""The containers that torch writes: zip, legacy, TorchScript, torch.export."""
