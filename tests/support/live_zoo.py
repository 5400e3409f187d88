"""Small models of every kind that keeps its parameters in its own way, and the file path as their oracle."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from surgery_zoo import BLOCK, apply, ask, load, noise, raw, save
from torch import Tensor, nn

from prunecli.core.amount import Amount
from prunecli.surgery.report.model import Report


class Wrapped(nn.Module):
    """What DistributedDataParallel makes of a model's names."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Tensor) -> Any:
        """Pass through."""
        return self.module(*inputs)


class Tied(nn.Module):
    """An embedding whose table the output layer shares: one parameter under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.body = nn.Linear(6, 6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Map `(n,)` tokens to `(n, 11)` scores."""
        scores: Tensor = self.head(torch.relu(self.body(self.embed(tokens))))
        return scores


class Shared(nn.Module):
    """One layer under two names, and two parameters that view one storage."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 5)
        self.again = self.first
        self.left, self.right = nn.Linear(5, 5), nn.Linear(5, 5)
        self.right.weight = nn.Parameter(self.left.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `(n, 5)`."""
        y: Tensor = self.right(self.left(self.again(self.first(x))))
        return y


class Odd(nn.Module):
    """Parameters of many types and strides, lists of them, and a buffer that no state dict holds."""

    def __init__(self) -> None:
        super().__init__()
        for dtype in (torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
            self.register_parameter(f"as_{str(dtype)[6:]}", nn.Parameter(noise((7, 9), dtype, 3), requires_grad=False))
        table = noise((12, 10), seed=4)
        self.transposed = nn.Parameter(noise((6, 8), seed=5).t())
        self.even, self.odd = nn.Parameter(table[:, ::2]), nn.Parameter(table[:, 1::2])
        self.counts = nn.Parameter(noise((4, 5), torch.int16, 6), requires_grad=False)
        self.listed = nn.ParameterList([nn.Parameter(noise((3, 4), seed=7)), nn.Parameter(noise((2, 4), seed=8))])
        self.empty = nn.Parameter(torch.empty(0, 3))
        self.large = nn.Parameter(noise((BLOCK + 17,), torch.bfloat16, 9))
        self.phases = nn.Parameter(torch.ones(3, dtype=torch.complex64))
        self.register_buffer("positions", torch.arange(5), persistent=False)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.LayerNorm(9), nn.Linear(9, 4))


def conv() -> nn.Module:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def attention() -> nn.Module:
    return nn.MultiheadAttention(8, 2, batch_first=True)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def compiled() -> nn.Module:
    return cast(nn.Module, torch.compile(mlp(), backend="eager"))


def weight_normed() -> nn.Module:
    return nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 5)), nn.Linear(5, 2))


ZOO: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "conv": conv,
    "lstm": lambda: nn.LSTM(5, 6, num_layers=2, bidirectional=True),
    "gru": lambda: nn.GRU(5, 6),
    "attention": attention,
    "encoder": encoder,
    "tied": Tied,
    "shared": Shared,
    "odd": Odd,
    "wrapped": lambda: Wrapped(mlp()),
    "compiled": compiled,
    "weight norm": weight_normed,
    "bfloat16": lambda: mlp().bfloat16(),
}


def make(name: str, seed: int = 0) -> nn.Module:
    """Make a model whose floating point parameters hold some zeros, some of them negative."""
    torch.default_generator.manual_seed(seed)  # torch.manual_seed keeps a traceback for each kind of device as well
    model = ZOO[name]()
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.element_size() > 1:
            flat = parameter.detach().clone(memory_format=torch.contiguous_format).view(-1)
            flat[::7], flat[3::7] = 0.0, -0.0
            parameter.detach().copy_(flat.view(parameter.shape))
    return model


def on_file(
    state: dict[str, Any], folder: Path, amount: Amount, *patterns: str, **options: Any
) -> tuple[dict[str, Tensor], Report]:
    """Prune a state dict by way of files; return what torch loads from the result, and the report."""
    source, target = save(state, folder / "model.pt"), folder / "out.pt"
    target.unlink(missing_ok=True)
    report = apply(source, target, ask(amount, *patterns, mask_dtype="same", **options))
    return load(target), report


def content(state: dict[str, Any]) -> dict[str, Any]:
    """Return everything that must agree of two state dicts: bits, types, shapes."""
    return {
        name: (raw(tensor) if not tensor.is_complex() else tensor.tolist(), tensor.dtype, tensor.shape)
        for name, tensor in state.items()
    }


def same_outcome(model: nn.Module, report: Report, expected: tuple[dict[str, Tensor], Report]) -> None:
    """Check a module and its report against the file's."""
    state, reported = expected
    assert content(model.state_dict()) == content(state)
    assert [each.name for each in report.parameters] == [each.name for each in reported.parameters]
    assert list(report.parameters) == list(reported.parameters)
    assert (report.totals, report.command, report.prune) == (reported.totals, reported.command, reported.prune)
