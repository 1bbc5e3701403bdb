"""Anthropic's Messages format, in and out."""
