"""Administration of the response cache."""
