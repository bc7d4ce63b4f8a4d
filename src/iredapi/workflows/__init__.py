"""Use cases over several systems: accounts and the mailing list server."""
