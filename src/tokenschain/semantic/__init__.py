"""Semantic cache: embedders, vector index, guards, verifier and false-hit control."""
