"""Reports: measured, written and read back as JSON, checked against gates."""
