"""Providers: upstreams, one vendor a file."""
