"""Tests against the libraries that write checkpoints: `pip install -e '.[dev,foreign]'`.

They are skipped where a library is not installed. With PRUNECLI_FOREIGN=1, as CI sets it, a skip is a failure.
"""

import os

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> object:
    report = yield
    if os.environ.get("PRUNECLI_FOREIGN") == "1" and report.outcome == "skipped":
        report.outcome = "failed"
    return report
