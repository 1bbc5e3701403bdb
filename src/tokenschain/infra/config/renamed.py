"""Renamed settings: an old name is refused, and the new one named."""

from __future__ import annotations

_GROUPS = {
    "server": "host port workers gateways trusted_proxies cors_origins head_bytes_max headers_max "
    "body_bytes_max head_wait_max_s body_grace_s body_rate_min idle_max_s write_stall_max_s "
    "connections_max heartbeat_s drain_max_s",
    "database": "ledger_days response_ttl_s",
    "secrets": "internal_secret_file master_key_file",
    "journal": "ship_interval_s",
    "engine": "embedder_port",
}
"""Names that stood by themselves and stand in a group now."""
_PREFIXES = {
    "tls": "certificate_file key_file",
    "control": "host port url",
    "database": "url connections_max",
    "redis": "url",
    "journal": "total_bytes_max",
    "smtp": "host port user password tls",
    "oidc": "issuer client_id client_secret groups_claim roles",
    "engine": "url enabled host port model chat_template_file slots context_tokens reproducible "
    "threads",
    "semantic": "host port urls memory_bytes_max",
}
"""Names that began with what is their group now."""

RENAMED: dict[str, str] = {
    **{name: f"{group}.{name}" for group, names in _GROUPS.items() for name in names.split()},
    **{
        f"{group}_{name}": f"{group}.{name}"
        for group, names in _PREFIXES.items()
        for name in names.split()
    },
    "upstream_ca_file": "egress.ca_file",
    "upstream_proxy": "egress.proxy",
    "image_networks": "egress.image_networks",
    "alert_networks": "alerts.networks",
    "public_control_url": "control.public_url",
    "smtp_from": "smtp.sender",
    "cache.wrong_max": "cache.false_hit_rate_max",
    "cache.policies": "cache.mode_overrides",
    "routing.policies": "routing.policy_overrides",
    "routing.own_policies": "routing.custom_policies",
}
"""Old names to new ones, as they stand in the file with dots between group and name."""
