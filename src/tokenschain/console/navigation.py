"""Navigation of the console: which pages there are, and which permission each needs."""

from __future__ import annotations

from typing import NamedTuple


class NavigationEntry(NamedTuple):
    """A page in the navigation."""

    key: str
    """Its name in the catalogue, after `nav.`."""
    path: str
    permission: str
    icon: str
    of_platform: bool = False
    """Whether the permission has to be on the platform."""


NAVIGATION: tuple[tuple[str, tuple[NavigationEntry, ...]], ...] = (
    (
        "build",
        (
            NavigationEntry("overview", "/console", "usage:read", "layout-dashboard"),
            NavigationEntry(
                "playground", "/console/playground", "models:call", "message-square-code"
            ),
            NavigationEntry("models", "/console/models", "models:read", "boxes"),
            NavigationEntry("keys", "/console/keys", "keys:read", "key-round"),
        ),
    ),
    (
        "scale",
        (
            NavigationEntry("calls", "/console/calls", "usage:read", "scroll-text"),
            NavigationEntry("routing", "/console/routing", "configuration:read", "waypoints"),
            NavigationEntry("cache", "/console/cache", "cache:read", "database-zap"),
            NavigationEntry("alerts", "/console/alerts", "alerts:read", "bell"),
        ),
    ),
    (
        "trust",
        (
            NavigationEntry("moderation", "/console/moderation", "moderation:read", "shield-check"),
            NavigationEntry("audit", "/console/audit", "audit:read", "file-clock"),
            NavigationEntry("duties", "/console/duties", "compliance:read", "calendar-clock"),
            NavigationEntry("compliance", "/console/compliance", "audit:read", "scale", True),
        ),
    ),
    (
        "billing",
        (
            NavigationEntry("usage", "/console/usage", "usage:read", "chart-column"),
            NavigationEntry("wallet", "/console/wallet", "billing:read", "wallet"),
        ),
    ),
    (
        "manage",
        (
            NavigationEntry("limits", "/console/limits", "limits:read", "gauge"),
            NavigationEntry("people", "/console/people", "users:read", "users"),
            NavigationEntry("organization", "/console/organization", "org:read", "network"),
        ),
    ),
    (
        "platform",
        (
            NavigationEntry("tenants", "/console/tenants", "org:read", "landmark", True),
            NavigationEntry("system", "/console/system", "models:read", "server", True),
            NavigationEntry("night", "/console/night", "models:read", "moon", True),
        ),
    ),
)

PAGE_ICONS = frozenset(entry.icon for _, entries in NAVIGATION for entry in entries)
