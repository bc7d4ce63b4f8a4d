"""Many accounts at once: what an import does with each line of a file."""
