"""Use cases: select, plan, rewrite, report. No console."""
