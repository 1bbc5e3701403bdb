"""Settings: a YAML file, overridden by environment variables `TOKENSCHAIN_GROUP__NAME`.

Every setting is declared once, with a unit in its name, a range and a sentence of purpose; the
reference page and `tokenschain doctor` are made from the declarations.
"""

from tokenschain.infra.config.groups import (
    CacheSettings,
    EmbedderSettings,
    JudgeSettings,
    PriceSettings,
    Settings,
    UpstreamSettings,
)
from tokenschain.infra.config.loading import (
    ADMIN_TOKEN_VARIABLE,
    ENV_PREFIX,
    LANGUAGE_VARIABLE,
    SettingsError,
    config_file,
    load,
    sources,
    variable_of,
)
from tokenschain.infra.config.server import ServerSettings

__all__ = [
    "ADMIN_TOKEN_VARIABLE",
    "ENV_PREFIX",
    "LANGUAGE_VARIABLE",
    "CacheSettings",
    "EmbedderSettings",
    "JudgeSettings",
    "PriceSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "UpstreamSettings",
    "config_file",
    "load",
    "sources",
    "variable_of",
]
