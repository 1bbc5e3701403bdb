"""Response cache: look-up and semantic client."""
