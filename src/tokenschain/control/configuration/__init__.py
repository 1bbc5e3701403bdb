"""Configuration as data: resources, their checks, revisions and what is published of them."""
