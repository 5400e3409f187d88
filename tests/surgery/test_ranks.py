"""Ranks that join each other, or say that they cannot."""

import socket
from datetime import timedelta

import pytest
from torch.distributed import HashStore  # type: ignore[attr-defined]

from prunecli.errors import UsageError
from prunecli.surgery.run import ranks


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_JOINING", timedelta(seconds=1))


def test_a_rank_does_not_wait_for_ever_for_a_leader_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    there = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for name, value in there.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match="WORLD_SIZE is 2, but the ranks cannot be joined"), ranks.ranks_of_launcher():
        pytest.fail("it joined nobody")


def test_nor_for_one_that_was_lost_while_they_joined() -> None:
    store = HashStore()
    store.set("prunecli/id/1", "of a rank that is gone")
    with pytest.raises(RuntimeError, match="not all ranks joined"):
        ranks._agreed_name(store, 0, 2)
