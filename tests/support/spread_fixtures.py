"""Fixtures of those who look at rewrites in units, for their modules to declare."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from spread_zoo import make, pruned

from prunecli.errors import OutputError
from prunecli.formats.io.sinks import FileSink
from prunecli.formats.outputs.resumable import partial_of
from prunecli.surgery.run.options import Run


def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let writing fail after so many chunks of tensors; a negative number repairs it.

    A configuration that comes along is not one of them.
    """
    write = FileSink.write

    def after(chunks: int) -> None:
        left = iter(range(chunks)) if chunks >= 0 else None

        def limited(sink: FileSink, data: memoryview, offset: int) -> None:
            if left is not None and len(data) > 4096 and next(left, None) is None:
                raise OSError(28, os.strerror(28))
            write(sink, data, offset)

        monkeypatch.setattr(FileSink, "write", limited)

    return after


def unfinished(tmp_path: Path, failing: Callable[[int], None]) -> Path:
    """A source with an unfinished output `out` beside it."""
    source = make("folder of safetensors", tmp_path)
    failing(4)
    with pytest.raises(OutputError):
        pruned(source, tmp_path / "out", Run(1, keep=True))
    failing(-1)
    assert partial_of(tmp_path / "out").entries()
    return source
