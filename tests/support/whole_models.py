"""Models whose classes can be imported, so that they are pickled whole, or compiled, and run again."""

from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn


class Recurrent(nn.Module):
    """An LSTM beside layers that torch keeps in registries: its weights stand in `_flat_weights` once more."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 8, 2, bidirectional=True)
        self.head = nn.Sequential(OrderedDict(norm=nn.BatchNorm1d(16), out=nn.Linear(16, 3)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.lstm(x)[0][-1])
        return y


class Attentive(nn.Module):
    """Attention, whose projections are parameters of its own, with a tied pair of weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0)
        self.decoder = nn.Linear(8, 11, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.decoder(self.block(self.embedding(x)))
        return y


class Shared(nn.Module):
    """One submodule under two names, a list and a dict of them, and odd attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(2, 2, 3, padding=1)
        self.again = self.first
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6).double().float()])
        self.mean = nn.Buffer(torch.full((2, 6), 0.25))
        self.limit = nn.Buffer(torch.ones(2, 6), persistent=False)
        self.gain = nn.Parameter(torch.ones(2, 6).t().contiguous().t())

    def forward(self, x: Tensor) -> Tensor:
        y = torch.minimum(self.again(self.first(x)), self.limit) + self.mean
        for layer in self.layers:
            y = layer(y)
        return y * self.gain


def halved(module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
    """A forward pre-hook."""
    return (args[0] / 2,)


MODELS: dict[str, tuple[type[nn.Module], Tensor]] = {
    "recurrent": (Recurrent, torch.linspace(-1, 1, 60).reshape(5, 3, 4)),
    "attentive": (Attentive, torch.arange(12).reshape(4, 3) % 11),
    "shared": (Shared, torch.linspace(-2, 2, 12).reshape(2, 6)),
}


def model(name: str) -> tuple[Any, Tensor]:
    """Make a model, in the state of training over, and something to feed it."""
    kind, sample = MODELS[name]
    torch.manual_seed(0)
    return kind().eval(), sample
