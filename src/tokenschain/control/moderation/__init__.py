"""Moderation's people: the review queue and what follows from its decisions."""
