"""Who asks, and what they may do: login, tokens, permissions."""
