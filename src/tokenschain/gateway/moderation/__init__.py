"""Moderation step of the gateway: requests before they leave, answers as they come."""
