"""No output depends on what fresh memory held."""

import platform

import pytest
from hostile_heaps import INPUTS, row

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="MALLOC_PERTURB_ is glibc's")


def test_outputs_are_the_same_whatever_the_heap_held() -> None:
    found = row()
    assert found.met, found
    assert int(found.reached.split()[0]) >= 6 * len(INPUTS)  # masked and baked, with reports beside and counted again
