"""HTTP/1.1 and SSE as bytes, without knowledge of models."""
