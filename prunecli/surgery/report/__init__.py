"""What was found or done: measured, written and read back as JSON, held to thresholds."""
