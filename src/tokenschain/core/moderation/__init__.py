"""Moderation: local rules, personal data and policies; plain functions without sockets or clock."""
