"""The names that weights-only loading admits are the newest torch's own list; what older ones differ in is known."""

import pytest
import torch
from torch._utils import IMPORT_MAPPING
from torch._weights_only_unpickler import _get_allowed_globals
from torch_versions import needs

from prunecli.formats.dtypes import DTYPES
from prunecli.formats.torch.globals import _ADMITTED, STORAGE_OF, admitted, storage_dtype

_VERSION = tuple(map(int, torch.__version__.split(".")[:2]))
_LATER = {"torch.bcomplex32": (2, 14)}
"""What the list has, by the first torch that admits it."""

_GONE = {"torch._utils._rebuild_nested_tensor": (2, 15)}
"""What it lacks, by the first torch that admits it no more."""


def test_the_list_is_that_of_the_newest_torch_and_what_older_ones_differ_in_is_known() -> None:
    theirs = set(_get_allowed_globals())
    # torch reads Python 2's names as today's before it looks them up.
    mine = {f"{IMPORT_MAPPING.get(module, module)}.{name}" for module, name in _ADMITTED}
    assert mine - theirs == {name for name, first in _LATER.items() if first > _VERSION}
    assert theirs - mine == {name for name, first in _GONE.items() if first > _VERSION}


def test_a_global_is_admitted_by_module_and_name() -> None:
    assert admitted("collections", "OrderedDict")
    assert not admitted("os", "system")
    assert not admitted("torch._utils._rebuild_tensor_v2", "")
    assert not admitted("torch", "load")


@pytest.mark.parametrize("name", STORAGE_OF.values())
def test_storage_classes_have_torchs_element_types(name: str) -> None:
    for module in ("torch", "torch.cuda"):
        dtype = storage_dtype(module, name)
        assert dtype is not None
        assert f"torch.{dtype.name}" == str(getattr(torch, name)._dtype)


@pytest.mark.parametrize("name", [pytest.param(name, marks=needs(name)) for name in DTYPES])
def test_element_sizes_are_torchs(name: str) -> None:
    assert DTYPES[name].itemsize == getattr(torch, name).itemsize
    if DTYPES[name].kind in ("float", "complex"):
        assert getattr(torch, name).is_floating_point == (DTYPES[name].kind == "float")
        assert getattr(torch, name).is_complex == (DTYPES[name].kind == "complex")


@pytest.mark.parametrize("name", [name for name, dtype in DTYPES.items() if dtype.kind == "float"])
def test_the_lone_sign_bit_is_a_zero_where_the_table_says(name: str) -> None:
    size = DTYPES[name].itemsize
    lone = torch.tensor([0] * (size - 1) + [0x80], dtype=torch.uint8).view(getattr(torch, name))
    assert (float(lone.to(torch.float64)) == 0) == DTYPES[name].signed_zero


def test_untyped_and_quantised_storages() -> None:
    untyped, packed = storage_dtype("torch.storage", "UntypedStorage"), storage_dtype("torch", "QUInt4x2Storage")
    assert untyped is not None
    assert (untyped.name, untyped.itemsize) == ("uint8", 1)
    assert packed is not None
    assert (packed.kind, packed.itemsize, packed.prunable) == ("opaque", 1, False)
    assert storage_dtype("torch", "Tensor") is None
    assert storage_dtype("numpy", "FloatStorage") is None
