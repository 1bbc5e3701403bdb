"""HTTP/1.1 and SSE as bytes; knows nothing of models."""
