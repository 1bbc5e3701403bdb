"""Duties to authorities and to people: incidents, requests of data subjects."""
