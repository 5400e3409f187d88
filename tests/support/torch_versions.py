"""What the oldest torch that the tests run with lacks: each test that needs such a thing says so by `needs`."""

import pytest
import torch

__all__ = ["SINCE", "needs"]

SINCE = {"bcomplex32": "2.14"}
"""Element types that only newer versions of torch have, by the first of these."""


def needs(name: str) -> pytest.MarkDecorator:
    """Skip where this torch lacks an element type that it need not have."""
    lacks = name in SINCE and not hasattr(torch, name)
    return pytest.mark.skipif(lacks, reason=f"torch.{name} came with torch {SINCE.get(name)}")
