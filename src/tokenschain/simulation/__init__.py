"""A world in virtual time: the real pipeline, routing and dispatch over modelled endpoints."""
