"""Reads a catalogue file into `core.catalog` types."""

from __future__ import annotations

from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tokenschain.core.catalog import (
    MICRO_PER_UNIT,
    Catalog,
    ModelInfo,
    Price,
    PriceTier,
    Provider,
)


class CatalogueError(ValueError):
    """The file is no catalogue; the message says where."""


def load(path: Path | None = None) -> Catalog:
    """The catalogue in a file, or the one shipped with the package.

    Raises:
        CatalogueError: the file cannot be understood.
    """
    if path is None:
        text = resources.files("tokenschain").joinpath("data/catalogue.yaml").read_text("utf-8")
    else:
        text = path.read_text(encoding="utf-8")
    try:
        raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        models = tuple(_model(entry, raw["version"]) for entry in raw["models"])
        providers = tuple(msgspec.convert(p, Provider) for p in raw["providers"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise CatalogueError(f"{path or 'the shipped catalogue'}: {error}") from error
    return Catalog(str(raw["version"]), providers, models)


def _model(entry: dict[str, Any], version: str) -> ModelInfo:
    price = entry.get("price")
    fields = {k: v for k, v in entry.items() if k != "price"}
    fields["price"] = None if price is None else _price(price, entry, version)
    return msgspec.convert(fields, ModelInfo)


def _price(price: dict[str, Any], entry: dict[str, Any], version: str) -> Price:
    tiers = tuple(
        PriceTier(
            input=_micro(tier["input"]),
            output=_micro(tier["output"]),
            cached_input=_micro(tier["cached_input"]) if "cached_input" in tier else None,
            input_tokens_max=tier.get("input_tokens_max"),
        )
        for tier in price["tiers"]
    )
    return Price(price["currency"], tiers, f"{entry['id']}@{entry['source_date']}/{version}")


def _micro(amount: float) -> int:
    """A listed amount in micro-units; the file's decimals are meant as written."""
    return int(Decimal(str(amount)) * MICRO_PER_UNIT)
