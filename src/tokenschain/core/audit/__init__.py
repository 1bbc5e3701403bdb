"""Audit log format: canonical records, Merkle trees, segments and signed checkpoints."""
