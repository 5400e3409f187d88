"""The folder of an unfinished output: one run at a time, nobody else's, and gone when it is not needed."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunecli.errors import OutputError
from prunecli.formats.outputs.resumable import partial_of, partial_output


def test_it_is_hidden_beside_the_output_and_gone_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "m.pruned"
    with partial_output(out, out, keep=True) as partial:
        partial.begin({"seed": 1})
        (partial.output / "a").write_bytes(b"a")
        assert [each.name[:12] for each in tmp_path.iterdir()] == [".m.pruned.pr"]
        assert partial.root.stat().st_mode & 0o777 == 0o700
    assert list(tmp_path.iterdir()) == []


def test_what_it_holds_is_kept_only_if_asked(tmp_path: Path) -> None:
    out = tmp_path / "m"
    for keep in (True, False):
        with pytest.raises(KeyError):
            _fail(out, keep=keep)
        assert partial_of(out).entries() == ({3: {"file": "a"}} if keep else {})
        assert partial_of(out).job() == ({"seed": 1} if keep else None)


def _fail(out: Path, *, keep: bool) -> None:
    with partial_output(out, out, keep=keep) as partial:
        partial.begin({"seed": 1})
        partial.record_unit(3, {"file": "a"})
        raise KeyError


def test_a_new_job_empties_it(tmp_path: Path) -> None:
    out = tmp_path / "m"
    with partial_output(out, out, keep=True) as partial:
        partial.begin({"seed": 1})
        partial.record_unit(3, {"file": "a"})
        (partial.output / "deep").mkdir()
        partial.begin({"seed": 2})
        assert (partial.entries(), partial.job(), list(partial.output.iterdir())) == ({}, {"seed": 2}, [])


@pytest.mark.parametrize("torn", [b"", b"{", b"[1]", b"\xff"])
def test_a_torn_entry_is_none(tmp_path: Path, torn: bytes) -> None:
    out = tmp_path / "m"
    with partial_output(out, out, keep=True) as partial:
        partial.begin({"seed": 1})
        partial.record_unit(3, {"file": "a"})
        (partial.root / "journal" / "4.json").write_bytes(torn)
        (partial.root / "journal" / "5.tmp").write_bytes(b"{}")
        assert partial.entries() == {3: {"file": "a"}}


def test_two_outputs_never_share_one(tmp_path: Path) -> None:
    long = "x" * 100
    assert partial_of(tmp_path / f"{long}1").root != partial_of(tmp_path / f"{long}2").root
    assert len(partial_of(tmp_path / long).root.name) < 143


def test_a_run_that_was_killed_leaves_no_lock(tmp_path: Path) -> None:
    out = tmp_path / "m"
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from prunecli.formats.outputs.resumable import partial_output\n"
        "out = Path(sys.argv[1])\n"
        "with partial_output(out, out, keep=False) as partial:\n"
        "    partial.begin({'seed': 1}); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(out)], check=False).returncode == -9
    assert partial_of(out).job() == {"seed": 1}
    with partial_output(out, out, keep=False) as partial:
        assert partial.job() == {"seed": 1}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_others_can_write_to_is_not_used(tmp_path: Path) -> None:
    out = tmp_path / "m"
    root = partial_of(out).root
    root.mkdir()
    root.chmod(0o777)
    with pytest.raises(OutputError, match="in the way"), partial_output(out, out, keep=False):
        pytest.fail("it was used")
    assert root.exists()


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "m", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_bytes(b"p")
    partial_of(out).root.symlink_to(elsewhere)
    with pytest.raises(OutputError, match="in the way"), partial_output(out, out, keep=False):
        pytest.fail("it was used")
    assert [each.name for each in elsewhere.iterdir()] == ["precious"]


def test_a_process_that_outlives_its_leader_keeps_later_runs_out(tmp_path: Path) -> None:
    out = tmp_path / "m"
    with pytest.raises(KeyError):
        _fail(out, keep=True)
    with partial_of(out).worker_lock():
        with pytest.raises(OutputError, match="another run is writing"), partial_output(out, out, keep=False):
            pytest.fail("it was used")
        assert partial_of(out).entries() == {3: {"file": "a"}}
    with partial_output(out, out, keep=False) as partial:
        assert not partial.failed


def test_the_last_one_to_leave_removes_what_was_given_up(tmp_path: Path) -> None:
    out = tmp_path / "m"
    leader = partial_output(out, out, keep=False)
    partial = leader.__enter__()
    partial.begin({"seed": 1})
    with partial.worker_lock():
        leader.__exit__(KeyError, KeyError(), None)
        assert partial.output.is_dir()
        assert partial.failed
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_that_was_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, *arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    out = tmp_path / "m"
    leader = partial_output(out, out, keep=False)
    leader.__enter__().begin({"seed": 1})
    for write in ("write_text", "write_bytes"):
        monkeypatch.setattr(Path, write, full)
    leader.__exit__(KeyError, KeyError(), None)
    assert list(tmp_path.iterdir()) == []


def test_nobody_of_an_earlier_run_begins_in_a_later_one(tmp_path: Path) -> None:
    out = tmp_path / "m"
    with pytest.raises(KeyError):
        _fail(out, keep=True)
    partial_of(out).write_token("earlier")
    assert partial_of(out).has_token("earlier")
    with partial_output(out, out, keep=True) as partial:
        assert not partial.has_token("earlier")


def test_a_file_system_that_fixes_owners_and_modes_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mkdir = Path.mkdir

    def fixed(path: Path, *arguments: Any, **options: Any) -> None:
        mkdir(path, *arguments, **options)
        path.chmod(0o777)

    monkeypatch.setattr(Path, "mkdir", fixed)
    out = tmp_path / "m"
    with partial_output(out, out, keep=False) as partial:
        partial.begin({"seed": 1})
    assert list(tmp_path.iterdir()) == []


def test_a_run_killed_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    """Where the old and the new folder cannot change places, the old one has no name for a moment."""
    out = tmp_path / "m"
    out.mkdir()
    (out / "precious").write_bytes(b"p")
    program = (
        "import os, signal, sys; from pathlib import Path; from prunecli.formats.outputs import folder\n"
        "from prunecli.formats.outputs.resumable import partial_output\n"
        "out = Path(sys.argv[1]); rename = Path.rename\n"
        "def killed(path, target):\n"
        "    rename(path, target); os.kill(os.getpid(), signal.SIGKILL)\n"
        "folder.swap = lambda *_: False; Path.rename = killed\n"
        "target = folder.check_folder(out, force=True, source=None, replaceable=True)\n"
        "with partial_output(out, out, keep=True) as partial:\n"
        "    partial.begin({'seed': 1}); target.publish(partial.output)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(out)], check=False).returncode == -9
    assert not out.exists()
    with partial_output(out, out, keep=False):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (out / "precious").read_bytes() == b"p"


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("number", [1, 2])
def test_a_signal_between_two_renames_loses_nothing(tmp_path: Path, number: int, keep: bool) -> None:
    """After the old folder went aside, and after the new one came: one of them is there, and whole."""
    out = tmp_path / "m"
    out.mkdir()
    (out / "precious").write_bytes(b"p")
    program = (
        "import os, signal, sys; from pathlib import Path; from prunecli.formats.outputs import folder\n"
        "from prunecli.cli.signals import Interrupted, die_of, interruptible\n"
        "from prunecli.formats.outputs.resumable import partial_output\n"
        "out, number, keep = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == 'True'\n"
        "rename, count = Path.rename, 0\n"
        "def struck(path, target):\n"
        "    global count; rename(path, target); count += 1\n"
        "    if count == number: os.kill(os.getpid(), signal.SIGTERM)\n"
        "folder.swap = lambda *_: False\n"
        "target = folder.check_folder(out, force=True, source=None, replaceable=True)\n"
        "try:\n"
        "    with interruptible(), partial_output(out, out, keep=keep) as partial:\n"
        "        partial.begin({'seed': 1}); (partial.output / 'new').touch(); Path.rename = struck\n"
        "        target.publish(partial.output)\n"
        "except Interrupted as error:\n"
        "    die_of(error.signum)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(out), str(number), str(keep)], check=False)
    assert done.returncode == -15
    assert [each.name for each in out.iterdir()] == [("precious", "new")[number - 1]]
    assert not (partial_of(out).root / "output.old" / "precious").exists() or (number, keep) == (2, True)
    if not keep:
        assert list(tmp_path.iterdir()) == [out]
