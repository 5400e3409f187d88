"""Names that attack, in every form that a report has, and on every screen."""

import pytest
from report_zoo import nasty

from prunecli.reporting.format import rendered
from prunecli.reporting.options import ReportFormat, TableOptions
from prunecli.reporting.terminal import PAGE, Screen
from prunecli.reporting.text import done_as_text

SCREENS = {
    "pipe": PAGE,
    "terminal": Screen(100, 50, live=True),
    "narrow": Screen(30, 10, live=True),
    "ascii": Screen(80, None, live=True, blocks=False),
}
VIEWS = {
    "fitted": TableOptions(),
    "deep": TableOptions(depth=9),
    "sorted": TableOptions(sort="sparsity"),
    "top": TableOptions(top=50),
}


@pytest.mark.parametrize("form", ReportFormat)
def test_no_form_has_what_a_terminal_obeys(form: ReportFormat) -> None:
    text = rendered(nasty(), form).decode("utf-8")
    assert all(char.isprintable() or char == "\n" for char in text)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("screen", SCREENS)
def test_no_screen_gets_it_either(screen: str, view: str) -> None:
    text = rendered(nasty(), ReportFormat.TABLE, SCREENS[screen], VIEWS[view]).decode("utf-8")
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "prunecli: error: forged" not in [line[:23] for line in text.splitlines()]


@pytest.mark.parametrize("screen", SCREENS)
def test_nor_by_what_a_run_prints(screen: str) -> None:
    assert all(char.isprintable() or char == "\n" for char in done_as_text(nasty(), SCREENS[screen], None))
