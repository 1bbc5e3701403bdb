"""Model list: what a key may use, in OpenAI's shape and in Anthropic's."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import parse_qs

from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import ModelDirectory
from tokenschain.core.tenancy import KeyGrant, may_use

PAGE_MODELS = 20
PAGE_MODELS_MAX = 1_000
_FIRST_CREATED_S = 1_700_000_000
"""For models whose age is not known: clients sort by it, and 0 is taken for a fault."""


class Listed(NamedTuple):
    """One model as it is listed."""

    name: str
    created_s: int
    owner: str
    aliases: tuple[str, ...] = ()
    """Other names that it answers to; they are not listed by themselves."""

    def openai(self) -> dict[str, object]:
        """As `GET /v1/models` of OpenAI has it, and its other names where it has some."""
        made: dict[str, object] = {
            "id": self.name,
            "object": "model",
            "created": self.created_s,
            "owned_by": self.owner,
        }
        if self.aliases:
            made["aliases"] = list(self.aliases)
        return made

    def anthropic(self) -> dict[str, object]:
        """As `GET /v1/models` of Anthropic has it."""
        created = datetime.fromtimestamp(self.created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return {
            "type": "model",
            "id": self.name,
            "display_name": self.name,
            "created_at": created,
        }


def usable(directory: ModelDirectory, grant: KeyGrant) -> list[Listed]:
    """The models, virtual ones too, that a key may use."""
    aliases: dict[str, list[str]] = {}
    for name, alias in directory.aliases().items():
        aliases.setdefault(alias.model, []).append(name)
    found = [
        Listed(name, _FIRST_CREATED_S, "routing")
        if route is None
        else Listed(
            name,
            route.created_s or _FIRST_CREATED_S,
            route.owned_by or "tokenschain",
            tuple(sorted(aliases.get(name, ()))),
        )
        for name, route in directory.names()
    ]
    return [
        model
        for model in found
        if any(may_use(grant, name) for name in (model.name, *model.aliases))
    ]


def answer(models: list[Listed], name: str, query: bytes, *, anthropic: bool) -> dict[str, object]:
    """What is asked of the list: all of it, a page, or one model.

    Args:
        name: of the one model; empty for the list.
        query: of the request; Anthropic's list comes in pages.

    Raises:
        ApiError: no such model, or a page that cannot be.
    """
    if name:
        for model in models:
            if model.name == name or name in model.aliases:
                return model.anthropic() if anthropic else model.openai()
        raise ApiError(
            "model_not_found",
            f"The model `{name[:200]}` does not exist here, or this API key may not use it.",
            param="model",
        )
    if not anthropic:
        return {"object": "list", "data": [model.openai() for model in models]}
    return _page(models, query)


def _page(models: list[Listed], query: bytes) -> dict[str, object]:
    asked = parse_qs(query.decode("latin-1"))
    limit = _limit(asked.get("limit", [""])[-1])
    names = [model.name for model in models]
    after, before = asked.get("after_id", [""])[-1], asked.get("before_id", [""])[-1]
    for param, name in (("after_id", after), ("before_id", before)):
        if name and name not in names:
            raise ApiError("invalid_value", f"`{param}`: no such model.", param=param)
    begin = names.index(after) + 1 if after else 0
    end = names.index(before) if before else len(names)
    models = models[begin:end]
    if before:
        page, more = models[-limit:], len(models) > limit
    else:
        page, more = models[:limit], len(models) > limit
    return {
        "data": [model.anthropic() for model in page],
        "first_id": page[0].name if page else None,
        "last_id": page[-1].name if page else None,
        "has_more": more,
    }


def _limit(given: str) -> int:
    if not given:
        return PAGE_MODELS
    if not given.isdecimal() or not 1 <= int(given) <= PAGE_MODELS_MAX:
        raise ApiError(
            "invalid_value", f"`limit` must be a number from 1 to {PAGE_MODELS_MAX}.", param="limit"
        )
    return int(given)
