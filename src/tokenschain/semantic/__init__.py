"""Questions that mean the same: embedders, an index, guards, a verifier, and its own bound."""
