"""A recorded corpus of published calls; see ``record``."""
