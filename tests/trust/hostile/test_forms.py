"""Hostile names, end to end: what reaches a terminal, a pipe, and each form of a report."""

import hostile_forms


def test_no_form_has_anything_that_a_name_made() -> None:
    row = hostile_forms.row()
    assert row.met, row.reached
