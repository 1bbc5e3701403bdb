"""Duties to authorities and to people: what is due when, by which rule."""
