"""Model catalogue, prices and costs."""
