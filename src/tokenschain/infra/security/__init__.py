"""Secrets, sealing and passwords."""
