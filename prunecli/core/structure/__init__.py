"""Where zeros lie: rows, columns, blocks and groups that hold nothing else."""
