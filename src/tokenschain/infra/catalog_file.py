"""Reads a catalog file into `core.pricing.catalog` types."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tokenschain.core.pricing.calendar import PeakSchedule
from tokenschain.core.pricing.catalog import (
    MICRO_PER_UNIT,
    Catalog,
    ModelAlias,
    ModelInfo,
    Price,
    PriceTier,
    Provider,
)

_NEAR_MAX = 3
_CONDITIONS = frozenset({"input_tokens_max", "output_tokens_max", "thinking", "off_peak", "batch"})


class _StrictTier(PriceTier, frozen=True, forbid_unknown_fields=True):
    """A row of the file; a misspelt name in it is an error and not a free class."""


class CatalogError(ValueError):
    """The file is no catalog; the message says where."""


def load(path: Path | None = None) -> Catalog:
    """The catalog in a file, or the one shipped with the package.

    Raises:
        CatalogError: the file cannot be understood.
    """
    if path is None:
        return _shipped()
    return _read(path.read_text(encoding="utf-8"), str(path))


@functools.cache
def _shipped() -> Catalog:
    """Read once a process: it takes a tenth of a second."""
    text = resources.files("tokenschain").joinpath("data/catalogue.yaml").read_text("utf-8")
    return _read(text, "the shipped catalogue")


def _read(text: str, name: str) -> Catalog:
    try:
        raw = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # nosec B506  # safe, either
        schedules = {
            name: msgspec.convert(entry, PeakSchedule)
            for name, entry in (raw.get("schedules") or {}).items()
        }
        models = tuple(_model(entry, raw["version"], schedules) for entry in raw["models"])
        providers = tuple(msgspec.convert(p, Provider) for p in raw["providers"])
        aliases = tuple(msgspec.convert(a, ModelAlias) for a in raw.get("aliases") or ())
    except (yaml.YAMLError, KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise CatalogError(f"{name}: {error}") from error
    problems = [
        *_duplicates(text, raw),
        *_lost_aliases(aliases, models),
        *_lost_providers(providers, models),
    ]
    if problems:
        raise CatalogError(f"{name}: {'; '.join(problems)}")
    return Catalog(str(raw["version"]), providers, models, aliases)


def near_providers(name: str, providers: Iterable[Provider]) -> list[str]:
    """Ids of the providers that somebody may have meant: by id, name or address, nearest first."""
    wanted, ids = name.lower(), [provider.id for provider in providers]
    said = {p.id: f"{p.id} {p.name} {p.base_url or ''}".lower() for p in providers}
    found = [id for id in ids if len(wanted) > 2 and wanted in said[id]]
    return (found or difflib.get_close_matches(wanted, ids, _NEAR_MAX, 0.6))[:_NEAR_MAX]


def _duplicates(text: str, raw: dict[str, Any]) -> Iterator[str]:
    """What stands in the file twice: a call must have one price, whatever the order of rows."""
    keys: dict[str, Callable[[dict[str, Any]], str]] = {
        "providers": lambda row: str(row["id"]),
        "models": lambda row: f"{row['provider']} {row['model']}",
        "aliases": lambda row: f"{row['provider']} {row['name']}",
    }
    for section, key in keys.items():
        seen: dict[str, int] = {}
        for at, row in enumerate(raw.get(section) or ()):
            first = seen.setdefault(key(row), at)
            if first != at:
                rows = raw[section]
                places = " and ".join(
                    f"`{rows[n].get('id', key(rows[n]))}` (line {_line_of(text, section, n)})"
                    for n in (first, at)
                )
                yield f"{section}: {key(row)} is there twice, as {places}; keep one"


def _line_of(text: str, section: str, at: int) -> int:
    """The line on which a row of a section begins, counted from 1."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    root: Any = yaml.compose(text, Loader=loader)
    rows = next(node for name, node in root.value if name.value == section)
    return int(rows.value[at].start_mark.line) + 1


def _lost_aliases(aliases: tuple[ModelAlias, ...], models: tuple[ModelInfo, ...]) -> Iterator[str]:
    known = {(info.provider, info.model) for info in models}
    for alias in aliases:
        if (alias.provider, alias.model) not in known:
            yield f"aliases: `{alias.name}` is for {alias.provider} {alias.model}, which is no row"
        if (alias.provider, alias.name) in known:
            yield f"aliases: {alias.provider} sells a model named `{alias.name}`"


def _lost_providers(
    providers: tuple[Provider, ...], models: tuple[ModelInfo, ...]
) -> Iterator[str]:
    sold = {info.provider for info in models if info.kind == "chat"}
    for provider in providers:
        shared = provider.chat_models_of
        if shared is not None and shared not in sold:
            yield f"providers: {provider.id} has the chat models of {shared}, which sells none"


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


def describe(info: ModelInfo) -> list[tuple[str, str]]:
    """A model's facts as labelled lines."""
    lines = [
        ("vendor", info.vendor),
        ("kind", info.kind),
        ("region", info.region or "?"),
        ("context", str(info.context_window or "?")),
        ("output at most", str(info.output_tokens_max or "?")),
        ("abilities", " ".join(info.abilities) or "-"),
    ]
    if info.price is None:
        lines.append(("price", "unknown"))
    else:
        lines += [("price", _tier_text(tier, info.price.currency)) for tier in info.price.tiers]
    if info.price_note is not None:
        lines.append(("note", info.price_note))
    return [*lines, ("source", f"{info.source}, {info.source_date}, {info.confidence}")]


def _tier_text(tier: PriceTier, currency: str) -> str:
    amounts = {
        "input": tier.input,
        "cached": tier.cached_input,
        "cache write": tier.cache_write,
        "cache write 1 h": tier.cache_write_1h,
        "output": tier.output,
    }
    limits = {
        "input tokens up to": tier.input_tokens_max,
        "output tokens up to": tier.output_tokens_max,
    }
    switches = {
        ("with thinking", "without thinking"): tier.thinking,
        ("off-peak hours", "peak hours"): tier.off_peak,
        ("batch", "not batch"): tier.batch,
    }
    text = ", ".join(
        f"{name} {micro / MICRO_PER_UNIT:g}" for name, micro in amounts.items() if micro is not None
    )
    conditions = [f"{name} {value}" for name, value in limits.items() if value is not None]
    conditions += [words[not is_so] for words, is_so in switches.items() if is_so is not None]
    holds = ", ".join(conditions)
    return f"{text} {currency} per 1M{f' ({holds})' if holds else ''}"


def differences(older: Catalog, newer: Catalog) -> list[tuple[str, str]]:
    """What changed: `+` added, `-` gone, `~` changed, each with its words."""
    before = {info.id: info for info in older.models}
    after = {info.id: info for info in newer.models}
    found = [("-", name) for name in sorted(before.keys() - after.keys())]
    found += [("+", name) for name in sorted(after.keys() - before.keys())]
    for name in sorted(before.keys() & after.keys()):
        was, now = dict(_facts(before[name])), dict(_facts(after[name]))
        for label in sorted(was.keys() | now.keys()):
            if was.get(label) != now.get(label):
                change = f"{name}: {label} {was.get(label, '-')} -> {now.get(label, '-')}"
                found.append(("~", change))
    return found


def _facts(info: ModelInfo) -> list[tuple[str, str]]:
    """What makes a difference; several price rows are told apart by their number."""
    prices = 0
    facts = []
    for label, value in describe(info):
        if label == "source":
            continue
        if label == "price":
            prices += 1
            label = f"price {prices}"  # noqa: PLW2901
        facts.append((label, value))
    return facts
