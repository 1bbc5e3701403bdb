"""Compliance: controls of standards, evidence from the running platform, signed reports."""
