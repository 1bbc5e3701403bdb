"""Observability: alerts."""
