"""Building blocks for asyncio: batching, caches, semaphores, shielding, hashing passwords."""
