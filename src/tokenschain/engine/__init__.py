"""Embedded inference: a local chat model and an embedding model."""
