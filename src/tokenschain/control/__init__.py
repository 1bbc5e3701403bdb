"""The control plane: what is configured, and what the journals add up to."""
