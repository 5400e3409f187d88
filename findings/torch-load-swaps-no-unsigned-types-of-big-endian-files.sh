#!/usr/bin/env bash
# torch 2.13.0: torch.load reads uint16, uint32, uint64 and complex32 of a big-endian checkpoint with swapped bytes.
#
# The record `byteorder` of a file of torch.save names the writer's byte order, and torch.load swaps the elements if the
# reader's is another. It takes their size from the type of the storage. For these four types there is no storage class:
# they are saved as an UntypedStorage, whose elements are bytes, so nothing is swapped, and nothing is said.
#
# Seen: on a little-endian machine, the numbers 1 to 8 come back from a big-endian file as they were in float32,
# bfloat16, int16 and complex64; as 256, 512, ... in uint16; and as other wrong numbers in the other three.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PYTHON'
import io
import sys
import zipfile

import torch


def big_endian(tensor):
    """The file that torch.save writes on a big-endian machine: its byte order, and every number reversed."""
    saved, other = io.BytesIO(), io.BytesIO()
    torch.save({"weight": tensor}, saved)
    size = tensor.element_size() // (2 if tensor.is_complex() else 1)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(other, "w") as target:
        for record in source.infolist():
            data = source.read(record)
            if record.filename.endswith("/byteorder"):
                data = b"big"
            elif "/data/" in record.filename:
                data = b"".join(data[at : at + size][::-1] for at in range(0, len(data), size))
            target.writestr(record.filename, data)
    other.seek(0)
    return other


assert sys.byteorder == "little"
swapped = {}
for dtype in "float32 bfloat16 int16 complex64 uint16 uint32 uint64 complex32".split():
    tensor = torch.arange(1, 9).to(getattr(torch, dtype))
    loaded = torch.load(big_endian(tensor), weights_only=True)["weight"]
    swapped[dtype] = torch.equal(loaded.view(torch.uint8), tensor.view(torch.uint8))
    print(f"{dtype}: {'as written' if swapped[dtype] else loaded.view(torch.uint8)[:8].tolist()}")
assert [dtype for dtype, right in swapped.items() if right] == ["float32", "bfloat16", "int16", "complex64"]
assert torch.load(big_endian(torch.tensor([1, 2], dtype=torch.uint16)))["weight"].tolist() == [256, 512]
PYTHON
echo "as stated"
