"""The HTTP API of the data plane: routes, response writer."""
