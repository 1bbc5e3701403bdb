"""Virtual models pages: names that rules resolve to models, edited as rules and previewed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec
from starlette.responses import RedirectResponse, Response

from tokenschain.console.admin_api import ApiRefusal
from tokenschain.console.configuration import (
    AppliedChange,
    ListedResource,
    ListedResources,
    ResourceNamed,
    if_match,
    named_in,
    need_new,
    owner_of_new,
)
from tokenschain.console.models import ModelList
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.routing import PATH as ROUTING
from tokenschain.console.visit import Visit
from tokenschain.infra.security.prescribed import fingerprint

PATH = f"{ROUTING}/models"
LISTED_MAX = 50
BLANK_RULES = 2
RULES_MAX = 100
LANGUAGES_ASKED = ("zh", "en", "ja", "ko", "ru", "ar")
NEEDS = ("tools", "vision", "json_schema")
FIELDS = ("order", "model", "upstream", "weight", "language", "tags", "from", "to", *NEEDS)
_RULE = re.compile(r"model-(\d{1,3})")

RuleTexts = dict[str, str]
"""One rule as it is typed, by the names of `FIELDS`."""


class RuleConditions(msgspec.Struct):
    """When a rule holds; see the API's `When`."""

    language: str | None = None
    tags: list[str] = []
    needs: list[str] = []
    prompt_tokens_min: int = 0
    prompt_tokens_max: int | None = None


class RoutingRule(msgspec.Struct):
    """One line of a virtual model; see the API's `VirtualModelEntry`."""

    model: str
    upstream: str | None = None
    weight: int | None = None
    when: RuleConditions | None = None


class VirtualModelRules(msgspec.Struct):
    """What a virtual model resolves to."""

    entries: list[RoutingRule] = []


async def show(visit: Visit, renderer: Renderer) -> Response:
    """The virtual models of the platform, or a tenant's own."""
    query = {"limit": LISTED_MAX, "cursor": visit.query.get("cursor"), "tenant": visit.tenant}
    parts = await visit.parts(found=visit.api.get("/virtual-models", ListedResources, query))
    found = parts["found"]
    rules = [rules_of(one) for one in found.data.data] if found.data else []
    return renderer.page("virtual_models.html", visit, found=found, rules=rules)


def rules_of(resource: ListedResource) -> list[RoutingRule]:
    """The rules of a virtual model, in their order."""
    return msgspec.convert(resource.spec, VirtualModelRules).entries


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The rules of a virtual model, or those of a new one."""
    named = named_in(visit)
    if not named.name:
        named.owner = owner_of_new(visit)
        return await _form(visit, renderer, named, [], revision="")
    found = await visit.api.get(named.path("virtual-models"), ListedResource, named.query)
    rules = [_typed(number, one) for number, one in enumerate(rules_of(found), 1)]
    revision = str(found.revision)
    return await _form(visit, renderer, named, rules, revision=revision, of_file=found.of_file)


async def change(visit: Visit, renderer: Renderer) -> Response:
    """Preview what rules would do; the same rules are then applied, and no others."""
    named, step = named_in(visit), visit.form.get("step", "preview")
    rules, revision = _rules_in(visit.form), visit.form.get("revision", "")[:20]
    if step == "more":
        return await _form(visit, renderer, named, rules, revision=revision)
    body = {"spec": {"entries": [_entry(one) for one in rules]}, "reason": _reason(visit)}
    shown = fingerprint(msgspec.json.encode(body["spec"]))[:16]
    path, headers = named.path("virtual-models"), if_match(visit)
    is_seen = step == "apply" and visit.form.get("previewed") == shown
    query = named.query if is_seen else {**named.query, "dry_run": "true"}
    try:
        if not revision:
            await need_new(visit, named, "virtual-models")
        done = await visit.api.send("PUT", path, AppliedChange, body, headers, query=query)
    except ApiRefusal as refusal:
        now = await _as_it_is(visit, named) if refusal.status == 412 else None
        return await _form(
            visit, renderer, named, rules, refusal=refusal, now=now,
            revision=revision if now is None else str(now.revision),
        )  # fmt: skip
    if is_seen:
        number = "" if done.revision is None else str(done.revision)
        where = visit.link(f"{ROUTING}/revision", number=number, done="applied")
        return RedirectResponse(where if number else visit.link(PATH), 303)
    return await _form(
        visit, renderer, named, rules, revision=revision, would=done, previewed=shown
    )


async def _as_it_is(visit: Visit, named: ResourceNamed) -> ListedResource | None:
    try:
        return await visit.api.get(named.path("virtual-models"), ListedResource, named.query)
    except ApiRefusal:
        return None


def _reason(visit: Visit) -> str:
    return visit.form.get("reason", "").strip()


# --- rules as they are typed ---------------------------------------------------------------


def _typed(number: int, rule: RoutingRule) -> RuleTexts:
    when = rule.when or RuleConditions()
    found = {
        "order": str(number),
        "model": rule.model,
        "upstream": rule.upstream or "",
        "weight": "" if rule.weight is None else str(rule.weight),
        "language": when.language or "",
        "tags": " ".join(when.tags),
        "from": str(when.prompt_tokens_min or ""),
        "to": "" if when.prompt_tokens_max is None else str(when.prompt_tokens_max),
    }
    return found | {need: "on" if need in when.needs else "" for need in NEEDS}


def _rules_in(form: Mapping[str, str]) -> list[RuleTexts]:
    """The rules of a form in their order; those without a model are none."""
    numbers = sorted(int(found[1]) for name in form if (found := _RULE.fullmatch(name)))
    rules = [
        {field: form.get(f"{field}-{number}", "").strip() for field in FIELDS}
        for number in numbers[:RULES_MAX]
    ]
    kept = [one for one in rules if one["model"]]
    return sorted(kept, key=lambda one: _number(one["order"], RULES_MAX))


def _number(text: str, otherwise: int) -> int:
    return int(text) if text.isdecimal() and len(text) < 10 else otherwise


def _entry(rule: RuleTexts) -> dict[str, object]:
    """A rule for the API, which says what is wrong with it."""
    found: dict[str, object] = {"model": rule["model"]}
    if rule["upstream"]:
        found["upstream"] = rule["upstream"]
    if rule["weight"]:
        found["weight"] = _whole(rule["weight"])
    when: dict[str, object] = {}
    if rule["language"]:
        when["language"] = rule["language"]
    if rule["tags"]:
        when["tags"] = rule["tags"].replace(",", " ").split()
    needs = [need for need in NEEDS if rule[need]]
    if needs:
        when["needs"] = needs
    for field, name in (("from", "prompt_tokens_min"), ("to", "prompt_tokens_max")):
        if rule[field]:
            when[name] = _whole(rule[field])
    return found | ({"when": when} if when else {})


def _whole(text: str) -> int | str:
    return int(text) if text.isdecimal() and text.isascii() and len(text) < 16 else text


async def _form(
    visit: Visit,
    renderer: Renderer,
    named: ResourceNamed,
    rules: Sequence[RuleTexts],
    *,
    revision: str,
    of_file: bool = False,
    would: AppliedChange | None = None,
    previewed: str = "",
    refusal: ApiRefusal | None = None,
    now: ListedResource | None = None,
) -> Response:
    """
    Args:
        revision: empty for a new one.
        now: how it is, where it was changed since the page was read.
    """
    blanks = min(BLANK_RULES if rules else BLANK_RULES + 1, RULES_MAX - len(rules))
    empty = dict.fromkeys(FIELDS, "")
    shown = [*rules, *(empty | {"order": str(len(rules) + n)} for n in range(1, blanks + 1))]
    models = (await visit.parts(all=visit.api.get("/served-models", ModelList)))["all"]
    return renderer.form(
        "virtual_model.html", visit, refusal,
        named=named, rules=shown, revision=revision, of_file=of_file, would=would,
        previewed=previewed, reason=_reason(visit), needs=NEEDS,
        languages=LANGUAGES_ASKED, unread=models.refusal,
        names=[one.name for one in models.data.data][:200] if models.data else [],
        now="" if now is None
        else msgspec.json.format(msgspec.json.encode(now.spec), indent=2).decode(),
    )  # fmt: skip


PAGES: Pages = {
    ("GET", PATH): show,
    ("GET", f"{PATH}/edit"): ask,
    ("POST", f"{PATH}/edit"): change,
}
