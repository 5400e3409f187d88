"""Names: the parameters of a checkpoint, which of them a command takes, which of them are one."""
