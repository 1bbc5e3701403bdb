"""Reads a catalogue file into `core.catalog` types."""

from __future__ import annotations

from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tokenschain.core.calendar import PeakSchedule
from tokenschain.core.catalog import (
    MICRO_PER_UNIT,
    Catalog,
    ModelInfo,
    Price,
    PriceTier,
    Provider,
)

_CONDITIONS = frozenset({"input_tokens_max", "output_tokens_max", "thinking", "off_peak", "batch"})


class _StrictTier(PriceTier, frozen=True, forbid_unknown_fields=True):
    """A row of the file; a misspelt name in it is an error and not a free class."""


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
        schedules = {
            name: msgspec.convert(entry, PeakSchedule)
            for name, entry in (raw.get("schedules") or {}).items()
        }
        models = tuple(_model(entry, raw["version"], schedules) for entry in raw["models"])
        providers = tuple(msgspec.convert(p, Provider) for p in raw["providers"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise CatalogueError(f"{path or 'the shipped catalogue'}: {error}") from error
    return Catalog(str(raw["version"]), providers, models)


def _model(entry: dict[str, Any], version: str, schedules: dict[str, PeakSchedule]) -> ModelInfo:
    price = entry.get("price")
    fields = {k: v for k, v in entry.items() if k != "price"}
    if price is not None:
        fields["price"] = Price(
            price["currency"],
            tuple(_tier(tier) for tier in price["tiers"]),
            f"{entry['id']}@{entry['source_date']}/{version}",
            schedules[price["schedule"]] if "schedule" in price else None,
        )
    return msgspec.convert(fields, ModelInfo)


def _tier(tier: dict[str, Any]) -> PriceTier:
    """Amounts become micro-units; conditions stay as they are."""
    return msgspec.convert(
        {k: v if k in _CONDITIONS else _micro(v) for k, v in tier.items()}, _StrictTier
    )


def _micro(amount: float) -> int:
    """A listed amount in micro-units; the file's decimals are meant as written."""
    return int(Decimal(str(amount)) * MICRO_PER_UNIT)
