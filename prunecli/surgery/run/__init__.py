"""The execution of a plan: edits, units of work, threads, ranks, resumption."""
