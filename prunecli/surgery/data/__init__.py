"""What is done to data between input and output: make masks, zero elements, count elements."""
