"""Ledger, prices, limits and rollups."""
