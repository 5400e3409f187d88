"""Object stores as input and output on an S3 server: the bytes of a local run, in ranges and in blocks."""

import importlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from bucket_server import KEYS, Bucket, Environ, serving
from conftest import EXAMPLE, PREFIX, Cli, Outcome
from forked import python
from safetensors.torch import save_file

FC = ("-p", "fc*.weight", "-a", "0.5", "--seed", "1", "-q")
ALL_KINDS = ["model.safetensors", "model.pt", "legacy.pt", "shards"]
KINDS = pytest.mark.parametrize("kind", ALL_KINDS)
MIB = 1 << 20


@pytest.fixture(scope="session")
def server() -> Iterator[Bucket]:
    with serving() as bucket:
        yield bucket


_numbers = itertools.count()


@pytest.fixture
def bucket(server: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket, which the command line reaches by the environment alone."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": server.endpoint, "AWS_MAX_ATTEMPTS": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("s3fs.S3FileSystem.retries", 2)  # it waits for seconds between them
    server.create(f"bucket-{next(_numbers)}")
    server.requests.clear()
    yield server
    server.fault = lambda _: None


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("others")
    state = torch.load(EXAMPLE, weights_only=True)["state_dict"]
    torch.save(state, folder / "legacy.pt", _use_new_zipfile_serialization=False)
    make_shards(folder / "shards", state)
    return folder


@pytest.fixture
def zoo(folder: Path, others: Path) -> Path:
    """The example in every container that is read from anywhere."""
    shutil.copytree(others, folder, dirs_exist_ok=True)
    return folder


def make_shards(path: Path, state: dict[str, Any]) -> None:
    """Write a folder of two shards; no fully connected layer is in the first."""
    (path / "sub").mkdir(parents=True)
    shards = {"model-1-of-2.safetensors": {}, "model-2-of-2.safetensors": {}}  # type: dict[str, dict[str, Any]]
    for name, tensor in state.items():
        shards[f"model-{2 if name.startswith('fc') else 1}-of-2.safetensors"][name] = tensor
    for name, tensors in shards.items():
        save_file(tensors, path / name)
    size = sum(tensor.nbytes for tensor in state.values())
    weight_map = {name: shard for shard, tensors in shards.items() for name in tensors}
    index = {"metadata": {"total_size": size}, "weight_map": weight_map}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    (path / "config.json").write_text("{}")
    (path / "sub" / "notes.txt").write_text("carried along")
    (path / "empty").touch()


def files(path: Path) -> dict[str, bytes]:
    """The contents of a file, or of all files of a folder."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {f"/{each.relative_to(path)}": each.read_bytes() for each in path.rglob("*") if each.is_file()}


def objects(bucket: Bucket, name: str) -> dict[str, bytes]:
    """The same of what lies in a bucket."""
    names = [key for key in bucket.keys if key == name or key.startswith(f"{name}/")]
    return {key.removeprefix(name): bucket.get(key) for key in names}


def upload(bucket: Bucket, path: Path) -> str:
    for name, data in files(path).items():
        bucket.put(f"{path.name}{name}", data)
    return bucket.url(path.name)


def placeless(report: str | bytes) -> Any:
    """A report without what must differ: the paths."""
    found = json.loads(report)
    for place in (found["source"], found["output"]):
        del place["path"]
    return found


def failure(outcome: Outcome, code: int) -> str:
    assert outcome.code == code, outcome.err
    assert outcome.out == ""
    assert outcome.err.startswith(PREFIX), outcome.err
    assert outcome.err.count("\n") == 1
    assert len(outcome.err) <= 301
    return outcome.err.removeprefix(PREFIX)


# What is written


@pytest.mark.parametrize(("kind", "form"), [*((kind, []) for kind in ALL_KINDS), ("shards", ["--remove"])])
def test_a_bucket_gets_the_bytes_of_a_local_run(
    cli: Cli, zoo: Path, bucket: Bucket, kind: str, form: list[str]
) -> None:
    source = upload(bucket, Path(kind))
    assert cli("apply", kind, *FC, *form, "-o", "out", "--report", "r.json").code == 0
    outcome = cli("apply", source, *FC, *form, "-o", bucket.url("out"), "--report", bucket.url("r.json"))
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == bucket.url("out") + "\n"
    assert objects(bucket, "out") == files(Path("out"))
    assert placeless(bucket.get("r.json")) == placeless(Path("r.json").read_text())
    found = json.loads(bucket.get("r.json"))
    assert (found["source"]["path"], found["output"]["path"]) == (source, bucket.url("out"))
    assert bucket.hanging == []
    assert objects(bucket, kind) == files(Path(kind))


@KINDS
def test_between_a_bucket_and_the_disk(cli: Cli, zoo: Path, bucket: Bucket, kind: str) -> None:
    assert cli("apply", kind, *FC, "-o", "out").code == 0
    assert cli("apply", upload(bucket, Path(kind)), *FC, "-o", "down").code == 0
    assert files(Path("down")) == files(Path("out"))
    assert cli("apply", kind, *FC, "-o", bucket.url("up"), "--no-report").code == 0
    assert objects(bucket, "up") == files(Path("out"))


@KINDS
def test_masks_are_baked_in_a_bucket_as_on_disk(cli: Cli, zoo: Path, bucket: Bucket, kind: str) -> None:
    assert cli("apply", kind, *FC, "-o", "masked").code == 0
    assert cli("remove", "masked", "-q", "-o", "baked").code == 0
    assert cli("remove", upload(bucket, Path("masked")), "-q", "-o", bucket.url("baked")).code == 0
    assert objects(bucket, "baked") == files(Path("baked"))


def table(report: str) -> str:
    """Return a report without its first line, which names the source."""
    return report.partition("\n")[2]


@KINDS
def test_report_and_params_say_of_a_bucket_what_they_say_of_the_disk(
    cli: Cli, zoo: Path, bucket: Bucket, kind: str
) -> None:
    source = upload(bucket, Path(kind))
    assert cli("params", source).out == cli("params", kind).out != ""
    assert (
        table(cli("report", source, "--format", "table").out)
        == table(cli("report", kind, "--format", "table").out)
        != ""
    )
    assert cli("report", source, "--format", "json", "-o", bucket.url("r.json")).code == 0
    here, there = cli("report", kind, "--format", "json").json, json.loads(bucket.get("r.json"))
    assert there.pop("source").pop("path") == source
    del here["source"]
    assert there == here


@pytest.mark.parametrize("kind", ["model.pt", "shards"])
def test_default_names_lie_beside_the_input(cli: Cli, zoo: Path, bucket: Bucket, kind: str) -> None:
    outcome = cli("apply", upload(bucket, Path(kind)), *FC)
    output = "model.pruned.pt" if kind == "model.pt" else "shards.pruned"
    assert outcome.out == bucket.url(output) + "\n"
    assert {key.split("/")[0] for key in bucket.keys} == {kind, output, f"{output}.report.json"}


def test_an_input_is_replaced_by_force(cli: Cli, zoo: Path, bucket: Bucket) -> None:
    source = upload(bucket, Path("model.pt"))
    assert "is the input itself" in failure(cli("apply", source, *FC, "-o", source), 6)
    assert bucket.get("model.pt") == Path("model.pt").read_bytes()
    assert cli("apply", "model.pt", *FC, "-o", "out.pt").code == 0
    assert cli("apply", source, *FC, "-o", source, "--force").code == 0
    assert bucket.get("model.pt") == Path("out.pt").read_bytes()


def test_a_folder_is_replaced_by_force_and_nothing_old_stays(cli: Cli, zoo: Path, bucket: Bucket) -> None:
    upload(bucket, Path("shards"))
    bucket.put("shards/old.txt", b"old")
    assert "exists" in failure(cli("apply", "shards", *FC, "-o", bucket.url("shards")), 6)
    assert cli("apply", "shards", *FC, "-o", "out").code == 0
    assert cli("apply", "shards", *FC, "-o", bucket.url("shards"), "--force").code == 0
    assert objects(bucket, "shards") == files(Path("out"))


def test_a_folder_is_replaced_in_place(cli: Cli, zoo: Path, bucket: Bucket) -> None:
    source = upload(bucket, Path("shards"))
    assert "is the input itself" in failure(cli("apply", source, *FC, "-o", source), 6)
    assert "lie in each other" in failure(cli("apply", source, *FC, "-o", f"{source}/sub/x"), 6)
    assert cli("apply", "shards", *FC, "-o", "out").code == 0
    assert cli("apply", source, *FC, "-o", source, "--force").code == 0
    assert objects(bucket, "shards") == files(Path("out"))


def test_other_folders_are_never_replaced(cli: Cli, zoo: Path, bucket: Bucket) -> None:
    bucket.put("photos/a.jpg", b"x")
    assert "holds no checkpoint" in failure(cli("apply", "shards", *FC, "-o", bucket.url("photos"), "--force"), 6)
    assert bucket.keys == ["photos/a.jpg"]


@pytest.mark.parametrize("kind", ["model.pt", "shards"])
def test_what_exists_is_refused_before_anything_is_sent(cli: Cli, zoo: Path, bucket: Bucket, kind: str) -> None:
    upload(bucket, Path("shards"))
    bucket.put("taken.pt", b"mine")
    bucket.put("taken.json", b"mine")
    free, taken = bucket.url("free"), bucket.url("shards" if kind == "shards" else "taken.pt")
    before = bucket.keys
    bucket.requests.clear()
    assert "exists" in failure(cli("apply", kind, *FC, "-o", taken), 6)
    line = failure(cli("apply", kind, *FC, "-o", free, "--report", bucket.url("taken.json")), 6)
    assert "name another output with --report" in line
    assert "exists" in failure(cli("report", kind, "-o", bucket.url("taken.json")), 6)
    assert {each.method for each in bucket.requests} <= {"GET", "HEAD"}
    assert bucket.keys == before


@pytest.mark.parametrize("kind", ["model.pt", "model.safetensors"])
def test_streams_and_buckets(cli: Cli, zoo: Path, bucket: Bucket, kind: str) -> None:
    assert cli("apply", kind, *FC, "-o", "out").code == 0
    assert cli("apply", "-", *FC, "-o", bucket.url("out"), stdin=Path(kind)).code == 0
    assert bucket.get("out") == Path("out").read_bytes()
    assert cli("apply", upload(bucket, Path(kind)), *FC, "-o", "-").raw == Path("out").read_bytes()


@pytest.mark.parametrize("kind", ["model.pt", "shards"])
def test_a_dry_run_sends_nothing(cli: Cli, zoo: Path, bucket: Bucket, kind: str) -> None:
    source = upload(bucket, Path(kind))
    before = bucket.keys
    bucket.requests.clear()
    outcome = cli("apply", source, *FC, "-o", bucket.url("out"), "--dry-run")
    assert outcome.code == 0
    assert outcome.err.endswith(f"would write {bucket.url('out')}, seed 1; nothing is written\n")
    assert {each.method for each in bucket.requests} <= {"GET", "HEAD"}
    assert bucket.keys == before


@KINDS
def test_a_dry_run_refuses_what_the_run_refuses(cli: Cli, zoo: Path, bucket: Bucket, kind: str) -> None:
    for output, flags in ((bucket.url("out"), ("--resume",)), (f"{bucket.endpoint}/{bucket.name}/out", ())):
        asked = ("apply", kind, *FC, "-o", output, *flags)
        codes = [cli(*asked, *dry) for dry in ((), ("--dry-run",))]
        assert codes[0].err != ""
        assert codes[1].err.endswith(codes[0].err)
        assert codes[0].code == codes[1].code != 0


@pytest.mark.parametrize("kind", ["model.pt", "shards"])
def test_only_what_is_written_here_can_be_resumed(cli: Cli, zoo: Path, bucket: Bucket, kind: str) -> None:
    source = upload(bucket, Path(kind))
    line = failure(cli("apply", source, *FC, "-o", bucket.url("out"), "--resume"), 2)
    assert "can neither be resumed nor spread over ranks" in line
    assert objects(bucket, "out") == {}
    assert cli("apply", source, *FC, "-o", "down", "--resume").code == 0
    assert cli("apply", kind, *FC, "-o", "out").code == 0
    assert files(Path("down")) == files(Path("out"))


@pytest.mark.parametrize("codec", ["zstd", "raw"])
def test_folders_are_packed_into_buckets_and_out_of_them(cli: Cli, zoo: Path, bucket: Bucket, codec: str) -> None:
    assert cli("pack", "shards", "--codec", codec, "-o", "p").code == 0
    source = upload(bucket, Path("shards"))
    assert cli("pack", source, "--codec", codec, "-o", bucket.url("p")).code == 0
    assert objects(bucket, "p") == files(Path("p"))
    assert "can neither be resumed" in failure(cli("unpack", bucket.url("p"), "-o", bucket.url("q"), "--resume"), 2)
    assert cli("unpack", bucket.url("p"), "-o", bucket.url("q")).code == 0
    assert objects(bucket, "q") == files(Path("shards"))
    assert cli("unpack", bucket.url("p"), "-o", "back", "--resume").code == 0
    assert files(Path("back")) == files(Path("shards"))


# How it is read and written


@pytest.fixture(scope="module")
def large_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("large") / "large.safetensors"
    save_file({f"fc{i}.weight": torch.arange(2.25 * MIB) + i for i in range(2)}, file)
    return file


@pytest.fixture
def large(folder: Path, large_file: Path) -> Path:
    """A file of two blocks, which is read in six ranges."""
    Path("large.safetensors").hardlink_to(large_file)
    return Path("large.safetensors")


def test_params_reads_the_header_only(cli: Cli, large: Path, bucket: Bucket) -> None:
    source = upload(bucket, large)
    bucket.requests.clear()
    assert cli("params", source).code == 0
    assert [each.method for each in bucket.requests] == ["HEAD", "GET"]
    assert sum(each.served for each in bucket.requests) <= 64 << 10


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_the_layout_of_a_torch_file_takes_a_look_a_tensor_and_a_few(
    cli: Cli, folder: Path, bucket: Bucket, zipped: bool
) -> None:
    tensors = {f"{i}.weight": torch.zeros(1 << 15) for i in range(40)} | {f"{i}.bias": torch.ones(9) for i in range(99)}
    torch.save(tensors, "many.pt", _use_new_zipfile_serialization=zipped)
    source = upload(bucket, Path("many.pt"))
    bucket.requests.clear()
    assert cli("params", source).out == cli("params", "many.pt").out
    assert len(bucket.requests) <= 50
    assert sum(each.served for each in bucket.requests) < Path("many.pt").stat().st_size // 2


def test_every_byte_is_read_once_in_ranges_and_written_in_blocks(cli: Cli, large: Path, bucket: Bucket) -> None:
    source = upload(bucket, large)
    bucket.requests.clear()
    assert cli("apply", source, *FC, "--remove", "-o", bucket.url("out"), "--no-report").code == 0
    read = [each.served for each in bucket.requests if each.method == "GET" and each.path.endswith("large.safetensors")]
    assert max(read) <= 4 * MIB
    assert sum(read) <= large.stat().st_size + (128 << 10)
    parts = [each for each in bucket.requests if "partNumber" in each.query]
    assert len(parts) == -(-large.stat().st_size // (16 * MIB))
    assert cli("apply", large, *FC, "--remove", "-o", "out").code == 0
    assert bucket.get("out") == Path("out").read_bytes()


def test_what_does_not_change_is_copied_by_the_store(cli: Cli, zoo: Path, bucket: Bucket) -> None:
    source = upload(bucket, Path("shards"))
    bucket.requests.clear()
    assert cli("apply", source, *FC, "--remove", "-o", bucket.url("out"), "--no-report").code == 0
    sent = [each.path for each in bucket.requests if each.method == "POST" and "uploads" in each.query]
    assert {path.rpartition("/")[2] for path in sent} == {"model-2-of-2.safetensors", "model.safetensors.index.json"}
    named = [each.path for each in bucket.requests if each.method == "POST" and "uploadId" in each.query]
    assert named[-1].endswith("out/model.safetensors.index.json")


# What goes wrong


def after(count: int, fault: str, *, method: str = "GET", query: str = "") -> Any:
    """Fail all requests of a kind but the first few; lists of keys are not counted among what is read."""
    seen = itertools.count(1)

    def reported(environ: Environ) -> str | None:
        mine = environ["REQUEST_METHOD"] == method and query in environ["QUERY_STRING"]
        mine = mine and "list-type" not in environ["QUERY_STRING"]
        return fault if mine and next(seen) > count else None

    return reported


@pytest.mark.parametrize("fault", ["cut", "drop", "503", "403", "404"])
def test_a_store_that_fails_while_it_is_read(cli: Cli, large: Path, bucket: Bucket, fault: str) -> None:
    source = upload(bucket, large)
    bucket.fault = after(4, fault)
    line = failure(cli("apply", source, *FC, "-o", bucket.url("out")), 3)
    assert line.startswith(f"cannot read {source} at byte ")
    bucket.fault = after(4, fault)
    failure(cli("apply", source, *FC, "-o", "out"), 3)
    assert not Path("out").exists()
    bucket.fault = lambda _: None
    assert bucket.keys == [large.name]
    assert bucket.hanging == []


@pytest.mark.parametrize(
    ("method", "query", "fault"),
    [
        ("POST", "uploads", "403"),
        ("POST", "uploads", "drop"),
        ("PUT", "partNumber=1", "503"),
        ("PUT", "partNumber=2", "drop"),
        ("PUT", "partNumber=2", "403"),
        ("POST", "uploadId", "503"),
        ("POST", "uploadId", "drop"),
    ],
)
def test_a_store_that_fails_while_it_is_written(
    cli: Cli, large: Path, bucket: Bucket, method: str, query: str, fault: str
) -> None:
    bucket.put("out", b"old")
    bucket.fault = after(0, fault, method=method, query=query)
    line = failure(cli("apply", large, *FC, "-o", bucket.url("out"), "--force"), 6)
    assert line.startswith(f"cannot write {bucket.url('out')}: ")
    bucket.fault = lambda _: None
    assert (bucket.keys, bucket.get("out")) == (["out"], b"old")
    assert bucket.hanging == []


@pytest.mark.parametrize("survivors", range(5))
def test_a_folder_appears_whole_or_not_at_all(cli: Cli, zoo: Path, bucket: Bucket, survivors: int) -> None:
    bucket.fault = after(survivors, "403", method="POST", query="uploadId")
    failure(cli("apply", "shards", *FC, "-o", bucket.url("out")), 6)
    bucket.fault = lambda _: None
    assert bucket.keys == []
    assert bucket.hanging == []


def test_a_folder_that_cannot_be_read_to_its_end_is_not_written(cli: Cli, zoo: Path, bucket: Bucket) -> None:
    source = upload(bucket, Path("shards"))
    bucket.fault = after(4, "403")
    failure(cli("apply", source, *FC, "-o", bucket.url("out")), 3)
    bucket.fault = lambda _: None
    assert objects(bucket, "out") == {}
    assert bucket.hanging == []


@pytest.mark.parametrize("command", ["apply", "report"])
def test_an_object_that_changes_while_it_is_read(cli: Cli, large: Path, bucket: Bucket, command: str) -> None:
    source = upload(bucket, large)
    other = large.read_bytes()[:-4] + b"\1\2\3\4"
    seen = itertools.count(1)

    def change(environ: Environ) -> str | None:
        if environ["REQUEST_METHOD"] == "GET" and next(seen) == 4:
            bucket.put(large.name, other)
        return None

    bucket.fault = change
    options = (*FC, "-o", bucket.url("out")) if command == "apply" else ()
    # One thread: the server takes it badly if the object goes while it serves it to another.
    assert "was changed while it was read" in failure(cli(command, source, *options, "-j", "1"), 3)
    assert bucket.keys == [large.name]
    assert bucket.hanging == []


def test_what_appears_meanwhile_is_not_replaced(cli: Cli, large: Path, bucket: Bucket) -> None:
    def appear(environ: Environ) -> str | None:
        if "partNumber=2" in environ["QUERY_STRING"]:
            bucket.put("out", b"theirs")
        return None

    bucket.fault = appear
    assert "appeared meanwhile" in failure(cli("apply", large, *FC, "-o", bucket.url("out")), 6)
    assert bucket.get("out") == b"theirs"
    assert bucket.hanging == []


@pytest.mark.parametrize(
    ("code", "arguments", "message"),
    [
        (3, ["params", "s3://{bucket}/none.pt"], "no such object"),
        (3, ["params", "s3://no-such-bucket/x.pt"], "no such"),
        (6, ["apply", "model.pt", *FC, "-o", "s3://no-such-bucket/x.pt"], "no such bucket"),
        (6, ["apply", "model.pt", *FC, "-o", "s3://{bucket}"], "name a file in it"),
        (3, ["params", "s3://{bucket}/empty"], "no such object"),
        (3, ["apply", "s3://{bucket}", *FC, "-o", "out"], "folder without an index"),
        (2, ["apply", "s3://{bucket}", *FC], "no output can be written next to"),
        (2, ["params", "s4://bucket/x.pt"], "known are s3, gs, hf, memory"),
        (2, ["params", "zip://x.pt"], "another file system"),
        (2, ["apply", "shards", *FC, "-o", "s3://{bucket}/o", "--report", "s3://{bucket}/o/r.json"], "beside it"),
        (2, ["apply", "model.pt", *FC, "-o", "s3://{bucket}/o", "--report", "s3://{bucket}/o"], "one file"),
    ],
)
def test_refusals(cli: Cli, zoo: Path, bucket: Bucket, code: int, arguments: list[str], message: str) -> None:
    bucket.put("a.txt", b"no checkpoint")
    assert message in failure(cli(*(each.format(bucket=bucket.name) for each in arguments)), code)
    assert bucket.keys == ["a.txt"]


@pytest.mark.parametrize(
    ("url", "package", "remedy"),
    [
        ("s3://bucket/x.pt", "s3fs", "pip install 'prunecli[s3]'"),
        ("gs://bucket/x.pt", "gcsfs", "pip install 'prunecli[gcs]'"),
        ("hf://user/model/x.safetensors", "huggingface_hub", "pip install 'prunecli[hf]'"),
    ],
)
def test_a_driver_that_is_not_installed_is_named(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch, url: str, package: str, remedy: str
) -> None:
    protocol = url.partition("://")[0]
    loaded = importlib.import_module("fsspec.registry")._registry
    monkeypatch.delitem(loaded, protocol, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert failure(cli("params", url), 2) == f"{protocol}:// needs the package {package}: {remedy}\n"
    failure(cli("apply", "model.pt", *FC, "-o", url), 2)


# Web servers


@KINDS
def test_a_web_server_is_read_in_ranges(cli: Cli, zoo: Path, bucket: Bucket, kind: str) -> None:
    if kind == "shards":
        kind = "shards/model-2-of-2.safetensors"
    url = f"{bucket.endpoint}/{bucket.name}/{kind}"
    bucket.put(kind, Path(kind).read_bytes())
    assert "status 403" in failure(cli("params", url), 3)
    bucket.publish(kind)
    bucket.requests.clear()
    assert (
        table(cli("report", url, "--format", "table").out) == table(cli("report", kind, "--format", "table").out) != ""
    )
    assert max(each.served for each in bucket.requests if each.method == "GET") <= 4 * MIB
    line = failure(cli("apply", kind, *FC, "-o", f"{bucket.endpoint}/{bucket.name}/out"), 6)
    assert line.startswith("cannot ")


def test_a_web_server_that_knows_no_ranges(cli: Cli, large: Path) -> None:
    def whole(environ: Environ, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Length", str(large.stat().st_size))])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [large.read_bytes()]

    with serving(whole) as server:
        url = server.endpoint.replace("//", "//me:word@") + "/x.pt?sig=word"
        line = failure(cli("params", url), 3)
    shown = url.replace("me:word", "***").replace("sig=word", "***")
    assert line == f"cannot read {shown} in parts: its server sends it whole; fetch it first\n"


# Processes


def start(*arguments: str, by: Sequence[str]) -> subprocess.Popen[str]:
    line = [*by, "-m", "prunecli", *arguments]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_process_ends_quietly(zoo: Path, bucket: Bucket) -> None:
    source = upload(bucket, Path("model.pt"))
    with start("apply", source, *FC, "-o", bucket.url("out"), by=(sys.executable, "-W", "error")) as process:
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, bucket.url("out") + "\n", "")


@pytest.mark.parametrize(
    ("query", "signum", "jobs"),
    [
        ("uploads", signal.SIGINT, "1"),
        ("uploads", signal.SIGTERM, "2"),
        ("partNumber=1", signal.SIGTERM, "1"),
        ("partNumber=2", signal.SIGINT, "2"),
    ],
)
def test_a_signal_in_the_middle_leaves_nothing(
    large: Path, bucket: Bucket, signum: signal.Signals, query: str, jobs: str
) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def wait(environ: Environ) -> str | None:
        if query in environ["QUERY_STRING"] and environ["REQUEST_METHOD"] in ("PUT", "POST"):
            reached.set()
            go_on.wait(30)
        return None

    bucket.fault = wait
    with start("apply", upload(bucket, large), *FC, "-o", bucket.url("out"), "-j", jobs, by=python("s3fs")) as process:
        assert reached.wait(60)
        process.send_signal(signum)
        time.sleep(0.2)
        go_on.set()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (-signum, "", "prunecli: interrupted; nothing was written\n")
    assert bucket.keys == [large.name]
    assert bucket.hanging == []


def test_a_list_of_parameters_lies_anywhere(cli: Cli, zoo: Path, bucket: Bucket) -> None:
    """`--params-from` takes a URL as it takes a path, for a checkpoint here or there."""
    there = bucket.put("lists/fc.txt", cli("params", "model.pt", "-p", "fc*.weight").out.encode())
    line = ("-a", "0.5", "--seed", "1", "--remove", "-q")
    for source in ("model.pt", upload(bucket, Path("model.pt"))):
        assert cli("apply", source, "--params-from", there, *line, "-o", "listed.pt", "--force").code == 0
        assert cli("apply", source, "-p", "fc*.weight", *line, "-o", "named.pt", "--force").code == 0
        assert Path("listed.pt").read_bytes() == Path("named.pt").read_bytes()
    outcome = cli("apply", "model.pt", "--params-from", bucket.url("lists/none.txt"), *line, "-o", "x.pt")
    assert (outcome.code, outcome.err.count("\n")) == (3, 1)
    assert bucket.url("lists/none.txt") in outcome.err
    bucket.put("lists/none.txt", b"")
    outcome = cli("apply", "model.pt", "--params-from", bucket.url("lists/none.txt"), *line, "-o", "x.pt")
    assert (outcome.code, "contains no names" in outcome.err) == (2, True)
