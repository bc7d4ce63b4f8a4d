"""The bare limit: an ASGI function on the same driver. No framework, no checks, no rules."""
