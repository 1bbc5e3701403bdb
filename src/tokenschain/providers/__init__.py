"""Upstreams, one vendor a file."""
