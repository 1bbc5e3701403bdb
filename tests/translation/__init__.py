"""Exactness in translation: nothing lost, nothing refused, nobody wrongly blamed or charged."""
