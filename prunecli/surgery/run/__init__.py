"""A plan carried out: edits, units of work, threads, ranks, resumption."""
