"""Cryptographic suite, secrets at rest, passwords."""
