"""Observability of control: alerts."""
