"""Parameters by which a caller would lead a call elsewhere than its key is for."""

from __future__ import annotations

from typing import Literal, get_args

SteeringParameter = Literal[
    "models", "fallbacks", "model_list", "provider", "providerOptions", "preset", "plugins",
    "route", "transforms", "service_tier", "speed", "inference_geo",
    # Of gateways that are asked as one of OpenAI's shape (LiteLLM's proxy).
    "api_base", "base_url", "api_key", "api_version", "custom_llm_provider", "user_config",
    "specific_deployment", "deployment_id", "num_retries", "extra_body", "extra_headers",
    "mock_response",
]  # fmt: skip
"""Parameters by which a vendor, or another gateway, serves a call by another model, at another
provider or place, or at another price, than the one that the caller's key, the rules of residency
and the prices are for."""
STEERING: frozenset[str] = frozenset(get_args(SteeringParameter))
