"""Redis: shared rate limits, cache, vector index, pub/sub."""
