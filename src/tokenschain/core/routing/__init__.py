"""Routing decisions as pure functions: health, admission, selection."""
