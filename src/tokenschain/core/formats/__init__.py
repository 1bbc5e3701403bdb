"""Wire formats of each API, the canonical form between them, dialects, stream aggregation."""
