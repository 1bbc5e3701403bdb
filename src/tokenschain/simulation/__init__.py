"""Discrete-event simulation: the real pipeline, router and dispatcher over modeled upstreams."""
