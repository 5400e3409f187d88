"""Elements taken apart and put together: by the kernel and by numpy, with the same bytes."""

import numpy as np
import pytest

from prunecli.core import kernel, planes
from prunecli.core.scratch import Buffer


@pytest.fixture(params=["kernel", "numpy"])
def made_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "numpy":
        monkeypatch.setattr(kernel, "_library", lambda: None)


@pytest.mark.usefixtures("made_by")
@pytest.mark.parametrize("count", [100, 5003])
@pytest.mark.parametrize("width", [1, 2, 4, 8, 16])
def test_kept_elements_move_together_and_back(width: int, count: int) -> None:
    rng = np.random.default_rng(width)
    keep = rng.random(count) < 0.5
    kept = int(keep.sum())
    raw = rng.integers(0, 256, (count, width), dtype=np.uint8) * keep[:, np.newaxis]
    values = planes.gather(raw.reshape(-1), width, keep, kept, Buffer())
    assert values is not None
    assert np.array_equal(values.reshape(-1, width), raw[keep])
    room = np.concatenate([values, np.full(planes.SPARE, 255, dtype=np.uint8)])
    out = np.full(raw.size, 7, dtype=np.uint8)
    planes.scatter(room[: values.size], width, keep, out)
    assert np.array_equal(out, raw.reshape(-1))
    raw[int(np.flatnonzero(~keep)[3]), width - 1] = 128
    assert planes.gather(raw.reshape(-1), width, keep, kept, Buffer()) is None


@pytest.mark.usefixtures("made_by")
@pytest.mark.parametrize(("width", "rotate"), [(1, False), (2, False), (2, True), (4, True), (8, True)])
@pytest.mark.parametrize("swap", [False, True])
def test_planes_hold_the_bytes_of_numbers(width: int, rotate: bool, swap: bool) -> None:
    numbers = np.array([0, 1, 1 << 8 * width - 1, (1 << 8 * width) - 2, 77], dtype=f"<u{width}")
    raw = (numbers.byteswap() if swap else numbers).view(np.uint8)
    found = planes.split_planes(raw, width, Buffer(), rotate=rotate, swap=swap)
    top = 1 << 8 * width - 1
    for place, number in enumerate(numbers.tolist()):
        value = (number << 1 & (1 << 8 * width) - 1) | bool(number & top) if rotate else number
        assert found.reshape(width, -1)[:, place].tobytes() == value.to_bytes(width, "little")
    out = np.empty_like(raw)
    planes.merge_planes(list(found.reshape(width, -1)), out, rotate=rotate, swap=swap)
    assert np.array_equal(out, raw)
