"""What is to be done, described before it is done: request, recipe, plan."""
