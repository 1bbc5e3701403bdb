"""Attacks, by class: each test does what somebody without the right would do."""
