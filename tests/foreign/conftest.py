"""Tests against the libraries that write checkpoints: `pip install -e '.[dev,foreign]'`.

They are skipped where a library is not installed. With PRUNECLI_FOREIGN=1, as CI sets it, a skip is a failure.
"""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if os.environ.get("PRUNECLI_FOREIGN") == "1" and report.outcome == "skipped":
        report.outcome = "failed"
    return report
