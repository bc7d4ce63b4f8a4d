"""One process at work: its resources, transactions, start and end."""
