"""Model catalog, prices and costs."""
