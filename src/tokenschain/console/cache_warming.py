"""Cache warming page: questions sent beforehand, after an estimate; the page's script sends them.

They go the playground's way: with a key that lives some minutes, one after the other, until the
last one or until who started it stops.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response

from tokenschain.console import cache, playground
from tokenschain.console.admin_api import ApiRefusal, Query
from tokenschain.console.models import ModelCard, ModelList
from tokenschain.console.rendering import Pages, Renderer
from tokenschain.console.visit import Visit, forbidden
from tokenschain.core.cache import warming
from tokenschain.core.tenancy import CALL

PATH = f"{cache.PATH}/warm"
WRITE, INSPECT = "cache:write", "cache:inspect"
QUESTIONS_MAX = 200
ANSWER_TOKENS, ANSWER_TOKENS_MAX = 400, 100_000
"""Of an answer, where an estimate is not told better."""
FIELDS = ("model", "system", "questions", "answer_tokens")


class WarmingRequest(NamedTuple):
    """One request that is sent, and what is shown of it."""

    body: str
    question: str


class WarmingEstimate(NamedTuple):
    """What sending requests comes to, if the cache has none of the answers yet."""

    requests: list[WarmingRequest]
    prompt_tokens: int
    answer_tokens: int
    costs: list[tuple[str, int]]
    """Currency and 10^-12 of its unit: one cost, or the least and the most; none where no price
    is known."""


async def ask(visit: Visit, renderer: Renderer) -> Response:
    """The form for questions; those that were frequent are read in only when asked for, since that
    is written down."""
    _insist(visit)
    given = dict.fromkeys(FIELDS, "") | {"answer_tokens": str(ANSWER_TOKENS)}
    given["model"] = visit.query.get("model", "")
    if visit.query.get("frequent") and visit.reader.may(INSPECT):
        given["questions"] = await _frequent(visit)
    return await _form(visit, renderer, given)


def _insist(visit: Visit) -> None:
    """Turn away who may not call models, or not write to the cache."""
    for action in (CALL, WRITE):
        if not visit.reader.may(action):
            raise forbidden(action)


async def _frequent(visit: Visit) -> str:
    query: Query = {
        "tenant": visit.shown_tenant, "from_s": int(time.time()) - cache.RANGES["7d"],
        "limit": cache.QUESTIONS_SHOWN,
    }  # fmt: skip
    found = await visit.api.get("/cache/query-clusters", cache.FrequentQuestions, query)
    return "\n".join(" ".join(one.queries[0].split()) for one in found.data if one.queries)


async def estimate(visit: Visit, renderer: Renderer) -> Response:
    """Say what the questions would cost; the page then offers to send them."""
    _insist(visit)
    given = {name: visit.form.get(name, "").strip() for name in FIELDS}
    lines = [line.strip() for line in given["questions"].splitlines() if line.strip()]
    if not lines:
        return await _form(visit, renderer, given, wrong="warm.none")
    if len(lines) > QUESTIONS_MAX:
        return await _form(visit, renderer, given, wrong="warm.too_many")
    requests = []
    for number, line in enumerate(lines, 1):
        try:
            requests.append(warming.request_of(line, given["model"], given["system"]))
        except ValueError:
            return await _form(visit, renderer, given, wrong="warm.bad_line", number=number)
    return await _form(visit, renderer, given, requests=requests)


async def _form(
    visit: Visit,
    renderer: Renderer,
    given: dict[str, str],
    *,
    wrong: str = "",
    number: int = 0,
    requests: list[dict[str, Any]] | None = None,
) -> Response:
    parts = await visit.parts(models=visit.api.get("/served-models", ModelList))
    found: ModelList | None = parts["models"].data
    chat = {one.name: one for one in (found.data if found else ()) if one.kind == "chat"}
    refusal: ApiRefusal | None = parts["models"].refusal
    return renderer.page(
        "cache_warm.html", visit, 400 if wrong else 200, given=given, names=sorted(chat),
        wrong=wrong, number=number, refusal=refusal, most=QUESTIONS_MAX,
        place=playground.place_of(visit), may_inspect=visit.reader.may(INSPECT),
        estimate=None if requests is None else _estimate(requests, given, chat),
    )  # fmt: skip


def _estimate(
    requests: list[dict[str, Any]], given: dict[str, str], models: dict[str, ModelCard]
) -> WarmingEstimate:
    typed = given["answer_tokens"]
    each = min(int(typed), ANSWER_TOKENS_MAX) if typed.isascii() and typed.isdecimal() else 0
    each = each or ANSWER_TOKENS
    costs: dict[tuple[int, str], int] = {}
    prompts = 0
    for request in requests:
        prompt = warming.prompt_tokens_of(request)
        prompts += prompt
        card = models.get(str(request["model"]))
        for at, price in enumerate(() if card is None else card.prices):
            # Micro-units per 1,000,000 tokens times tokens are 10^-12 of the unit.
            tier = price.tiers[0]
            whose = at, price.currency
            costs[whose] = costs.get(whose, 0) + prompt * tier.input + each * tier.output
    shown = [
        WarmingRequest(msgspec.json.encode(one).decode(), _question_of(one)) for one in requests
    ]
    return WarmingEstimate(
        shown, prompts, each * len(requests),
        [(currency, pico) for (_, currency), pico in sorted(costs.items())],
    )  # fmt: skip


def _question_of(request: dict[str, Any]) -> str:
    """The last turn, as far as it is text."""
    match request["messages"][-1]:
        case {"content": str(text)}:
            return text
    return msgspec.json.encode(request["messages"][-1]).decode()


PAGES: Pages = {("GET", PATH): ask, ("POST", PATH): estimate}
