"""Audit trail of administration."""
