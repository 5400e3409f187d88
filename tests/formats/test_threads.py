"""What threads share: values are computed once, results come in order, and blocks are decoded when they are needed."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from prunecli.formats.io import cache
from prunecli.formats.io.cache import BlockCache
from prunecli.formats.io.threads import Once, PerThread, in_order


@pytest.mark.parametrize("jobs", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 40])
def test_results_come_in_the_order_of_tasks(jobs: int, count: int) -> None:
    assert list(in_order(lambda task: task * task, range(count), jobs)) == [task * task for task in range(count)]


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_first_error_of_a_task_is_raised_after_the_results_before_it(jobs: int) -> None:
    results = in_order(lambda task: 6 // (3 - task), range(100), jobs)
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_few_tasks_are_taken_before_their_results_are_needed() -> None:
    tasks = iter(range(100))
    assert next(in_order(abs, tasks, 2)) == 0
    assert next(tasks) <= 6


def test_each_thread_has_its_own_object_and_keeps_it() -> None:
    own, barrier = PerThread(list[int]), threading.Barrier(3)

    def look(number: int) -> list[int]:
        own.get().append(number)
        barrier.wait()
        assert own.get() == [number]
        return own.get()

    with ThreadPoolExecutor(3) as pool:
        assert sorted(pool.map(look, range(3))) == [[0], [1], [2]]


def test_a_value_is_computed_once_until_it_is_released_and_again_after_an_error() -> None:
    made: list[int] = []

    def make() -> int:
        made.append(len(made))
        if len(made) == 1:
            raise ValueError
        return len(made)

    once = Once(make)
    with pytest.raises(ValueError):  # noqa: PT011
        once.get()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: once.get(), range(20))) == {2}
    once.release()
    assert once.get() == 3


def test_blocks_are_decoded_once_while_there_is_room_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_CACHED", 20)
    blocks, decoded = BlockCache(), list[int]()

    def read(number: int) -> list[int]:
        def decode(out: NDArray[np.uint8]) -> None:
            decoded.append(number)
            if number == 9 and decoded.count(9) == 1:
                raise ValueError
            out[:] = number

        return [int(each) for each in blocks.get(number, 8, decode)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(read, [1, 2] * 10)) == [[1] * 8, [2] * 8] * 10
    assert sorted(decoded) == [1, 2]
    read(1)
    read(3)  # the one that was not read for longest goes
    assert [read(number)[0] for number in (1, 3, 2)] == [1, 3, 2]
    assert sorted(decoded) == [1, 2, 2, 3]
    with pytest.raises(ValueError):  # noqa: PT011
        read(9)
    assert read(9) == [9] * 8
