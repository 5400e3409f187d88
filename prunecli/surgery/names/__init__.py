"""Names: the parameters of a checkpoint, which of them a command selects, and which of them are tied."""
