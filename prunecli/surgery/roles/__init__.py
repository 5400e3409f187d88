"""The roles of tensors: a table of rules, and the evidence for each."""
