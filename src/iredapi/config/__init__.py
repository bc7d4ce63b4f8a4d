"""Settings: where they come from, how they are read, and taking them over from iRedAdmin."""
