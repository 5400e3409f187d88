"""The structure of zeros: rows, columns, blocks and groups that contain only zeros."""
