"""What a tensor is: a table of roles, and the evidence for each."""
