"""What is charged, to whom, and by which upstream (kind K7).

Money follows what the caller got: an error costs nothing, and what upstreams are owed for it is
the platform's, apart. Whole calls through the gateway in this process; records go into a ledger.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import pytest
from sqlalchemy import Engine, func, select

from tests.field_failures.answers import Json, chunk, frames, last_usage, message
from tests.translation.lab import Lab, Result, _snapshot
from tests.vendors.strict.vendor import Answer, Counted
from tokenschain.control.billing import ledger as books
from tokenschain.control.billing.ledger import Ledger
from tokenschain.core import call_record
from tokenschain.core.call_record import CallRecord, Overhead
from tokenschain.core.formats import openai_responses
from tokenschain.core.formats.anthropic import inbound
from tokenschain.core.pricing.catalog import Price, PriceTier, Usage, cost_of
from tokenschain.core.snapshot import Alias, ModelRoute, Offer, Routing, Snapshot, Upstream
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry, When
from tokenschain.gateway.api import app
from tokenschain.infra.database.tables import ledger, ledger_entries, platform_costs, usage_hourly

Change = Callable[[Answer], Answer]
CLOUDS = ("deepseek", "moonshot", "openai")
"""In the order in which they are asked: each costs more than the one before."""
PRICES = {
    name: Price("CNY", (PriceTier(1_000_000 * at, 2_000_000 * at),), f"{name}/1")
    for at, name in enumerate(CLOUDS, 1)
}
JSON = (("content-type", "application/json"),)
HI = [{"role": "user", "content": "hi"}]


class MoneyLab(Lab):
    """A lab where one model is sold by several clouds, each with a fault of its own."""

    changes: dict[str, Change]
    counted_by: dict[str, list[Counted]]
    billed: dict[str, list[tuple[int, int]]]
    """By cloud, what each of its answers said that it costs."""

    def sell(self, *clouds: str, routing: Routing = Routing(policy="cost-first", explore=0.0),
             aliases: Mapping[str, Alias] = {}, **upstreams: Any) -> None:  # fmt: skip
        """The model `any`, and one of each cloud's own name."""
        served = _snapshot(self.vendors)
        made = {
            name: msgspec.structs.replace(served.upstreams[name], **upstreams) for name in clouds
        }
        offers = tuple(
            msgspec.structs.replace(served.models[name].offers[0], price=PRICES[name])
            for name in clouds
        )
        models = {o.upstream: ModelRoute(o.upstream, "chat", (o,)) for o in offers}
        models["any"] = ModelRoute("any", "chat", offers)
        self.served.replace(
            Snapshot(f"money {random.random()}", made, models, routing, aliases=dict(aliases))
        )
        self.served.version = self.served.get().version
        self.fresh()

    def answer(self, name: str, headers: Mapping[str, str], body: bytes) -> Answer:
        strict = self.vendors[name]
        before = len(strict.counted)
        answer = super().answer(name, headers, body)
        changed = self.changes.get(name, lambda same: same)(answer)
        if changed.status == 200:
            self.counted_by[name] += strict.counted[before:]
            for prompt, completion in _USAGE.findall(b"".join(changed.pieces))[-1:]:
                self.billed[name].append((int(prompt), int(completion)))
        return changed


_USAGE = re.compile(rb'"prompt_tokens": ?(\d+), ?"completion_tokens": ?(\d+)')


@pytest.fixture(scope="module")
def shared_money_lab() -> Iterator[MoneyLab]:
    loop = asyncio.new_event_loop()
    yield MoneyLab(loop)
    loop.close()


@pytest.fixture
def clouds(shared_money_lab: MoneyLab) -> MoneyLab:
    lab = shared_money_lab
    lab.changes, lab.counted_by, lab.billed = {}, defaultdict(list), defaultdict(list)
    lab.alter = None
    lab.sell(*CLOUDS)
    return lab


def ask(lab: Lab, api: str = "chat/completions", *, stream: bool = False, **more: Any) -> Result:
    body: Json = {"model": "any", "stream": stream}
    if api == "responses":
        body |= {"input": "hi", "store": False}
    else:
        body["messages"] = HI
    if api == "messages":
        body["max_tokens"] = 100
    return lab.ask(f"/v1/{api}", body | more)


def record_of(got: Result) -> CallRecord:
    assert got.record is not None
    return got.record


def says(*pieces: bytes | Json, status: int = 200, kind: str = "application/json") -> Change:
    raw = tuple(p if isinstance(p, bytes) else json.dumps(p).encode() for p in pieces)
    return lambda _: Answer(status, (("content-type", kind),), raw)


def cut_after(pieces: int) -> Change:
    """The stream breaks off after so many of its pieces."""
    return lambda answer: answer._replace(pieces=answer.pieces[:pieces])


def owed(record: CallRecord) -> dict[str, list[tuple[str, int | None, str]]]:
    """By upstream: outcome, cost and who bears it of each attempt."""
    found: dict[str, list[tuple[str, int | None, str]]] = defaultdict(list)
    for attempt in record.attempts:
        found[attempt.upstream].append((attempt.outcome, attempt.cost_pico, attempt.overhead))
    return found


# --- settled when the caller's answer is complete --------------------------------------------


# own: billing where a stream came as JSON (P16); QuantumNous/new-api#5221 (P26, follows R10)
@pytest.mark.parametrize("api", ["messages", "responses"])
@pytest.mark.parametrize("stream", [False, True])
def test_p26_an_answer_that_cannot_be_said_to_the_caller_costs_it_nothing(
    clouds: MoneyLab, api: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise TypeError("a fault of ours")

    clouds.sell("openai")
    if stream:
        monkeypatch.setattr(inbound.MessagesStreamOut, "end", broken)
        monkeypatch.setattr(openai_responses.ResponsesStreamOut, "end", broken)
    else:
        path = f"/v1/{api}".encode()
        monkeypatch.setitem(
            app._FORMATS, path, msgspec.structs.replace(app._FORMATS[path], whole=broken)
        )
    record = record_of(got := ask(clouds, api, stream=stream))
    assert (record.error, record.fault) == ("translation_failed", "platform")
    assert (record.charge_pico, record.cost_pico) == (0, 0)
    assert (record.prompt_tokens, record.completion_tokens) == (0, 0)
    usage = Usage(*clouds.counted_by["openai"][-1])
    assert owed(record) == {
        "openai": [("ok", cost_of(usage, PRICES["openai"]), Overhead.TRANSLATION)]
    }
    assert got.status == (200 if stream else 502)
    assert not got.faults, "it was caught where it was known whose fault it is"
    assert not clouds.router.healths["openai"].is_open


def test_p16_a_refused_form_is_charged_to_nobody_and_owed_once(clouds: MoneyLab) -> None:
    """QuantumNous/new-api: a 200 that is no answer."""
    clouds.sell("openai")
    clouds.changes["openai"] = says(b"<html>busy</html>", kind="text/html")
    for stream in (False, True):
        record = record_of(got := ask(clouds, stream=stream))
        assert got.status == 502
        assert (record.charge_pico, record.cost_pico, record.usage_source) == (0, 0, "none")


# own, follows P19: what the ledger says of a stream that ended in a vendor's error line (P23)
@pytest.mark.parametrize("api", ["chat/completions", "messages", "responses"])
def test_p23_a_stream_that_ends_in_an_error_is_no_success_in_the_ledger(
    clouds: MoneyLab, api: str
) -> None:
    clouds.sell("openai")
    error = b'data: {"code": 1302, "msg": "too many"}\n\n'
    clouds.changes["openai"] = says(*frames(chunk(content="fine"), error), kind="text/event-stream")
    record = record_of(ask(clouds, api, stream=True))
    assert record.outcome == "partial" and record.fault == "upstream"


def test_a_refusal_by_the_upstream_costs_nothing(clouds: MoneyLab) -> None:
    clouds.sell("openai")
    error = {"error": {"message": "no", "type": "invalid_request_error", "code": "bad"}}
    clouds.changes["openai"] = says(error, status=400)
    record = record_of(got := ask(clouds))
    assert got.status == 400
    assert (record.charge_pico, record.cost_pico) == (0, 0)
    assert not clouds.router.healths["openai"].is_open


def test_a_4xx_about_the_body_never_counts_against_the_upstream(clouds: MoneyLab) -> None:
    clouds.sell("openai")
    for status in (400, 413, 422):
        clouds.changes["openai"] = says({"error": {"message": "bad image"}}, status=status)
        for _ in range(10):
            assert ask(clouds).status < 500
    health = clouds.router.healths["openai"]
    assert not health.is_open and health.success_share(clouds.router._clock()) == 1.0


# --- the platform's own costs ------------------------------------------------------------------


# walk-through 15: a spliced stream was charged wholly to the second cloud
def test_the_first_part_of_a_spliced_stream_is_the_platforms_cost(clouds: MoneyLab) -> None:
    clouds.sell("deepseek", "moonshot")
    clouds.changes["deepseek"] = cut_after(3)
    record = record_of(got := ask(clouds, stream=True))
    assert record.outcome == "ok", got.body
    first, second = record.attempts
    assert (first.upstream, first.overhead) == ("deepseek", Overhead.FAILOVER)
    assert first.completion_tokens and first.price_version == "deepseek/1"
    assert first.cost_pico == cost_of(
        Usage(first.prompt_tokens, first.completion_tokens), PRICES["deepseek"]
    )
    counted = clouds.counted_by["moonshot"][-1]
    assert (second.upstream, second.overhead) == ("moonshot", "")
    assert (second.prompt_tokens, second.completion_tokens) == counted
    assert record.cost_pico == second.cost_pico == cost_of(Usage(*counted), PRICES["moonshot"])
    # The caller pays for the answer once: its own prompt, and all that it was told.
    whole = second.completion_tokens + first.completion_tokens
    assert record.completion_tokens == whole
    assert record.charge_pico == cost_of(Usage(record.prompt_tokens, whole), PRICES["moonshot"])


def test_a_failed_attempt_that_was_counted_is_the_platforms_cost(clouds: MoneyLab) -> None:
    schema = {"name": "a", "strict": True, "schema": {
        "type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}}  # fmt: skip
    format_ = {"type": "json_schema", "json_schema": schema}
    clouds.sell("moonshot", "deepseek")
    clouds.changes["deepseek"] = says(message("no JSON at all"))
    clouds.changes["moonshot"] = says(message('{"a": "b"}'))
    record = record_of(got := ask(clouds, response_format=format_))
    if len(record.attempts) == 1:
        pytest.skip("the first cloud takes schemas itself")
    assert got.status == 200
    assert record.attempts[0].overhead == Overhead.FAILOVER
    assert record.attempts[0].cost_pico == cost_of(Usage(11, 7), PRICES["deepseek"])
    assert record.cost_pico == record.charge_pico == record.attempts[1].cost_pico


# --- the ledger is what the simulators counted -------------------------------------------------


USED = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def _faults(chance: random.Random, *, stream: bool) -> dict[str, Change]:
    """Each cloud answers as it should, or fails; what it counted for that it says itself."""
    choices: list[Change | None] = [
        None,
        None,
        says(b"down", status=503),
        says(b"<html>", kind="text/html"),
        says(message("fine") | {"usage": USED}),
        # Counted, and given up.
        says(message("fine", "error") | {"usage": USED}),
        says(message("") | {"usage": USED, "choices": []}),
    ]
    if stream:
        unfinished = frames(chunk(content="a"), last_usage(USED), done=False)
        choices.append(says(*unfinished, kind="text/event-stream"))
    made = {}
    for name in CLOUDS:
        change = chance.choice(choices)
        if change is not None:
            made[name] = change
    return made


def test_sums_by_cloud_are_what_the_clouds_produced_whatever_fails(
    clouds: MoneyLab, engine: Engine
) -> None:
    chance = random.Random(20_261_126)
    records: list[CallRecord] = []
    said: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for number in range(150):
        clouds.fresh()
        stream = chance.random() < 0.5
        clouds.changes = _faults(chance, stream=stream)
        api = chance.choice(["chat/completions", "messages", "responses"])
        got = ask(clouds, api, stream=stream)
        record = record_of(got)
        record.event_id = f"req_{number:08x}"
        records.append(record)
        for attempt in record.attempts:
            if attempt.usage_source != "none":
                said[attempt.upstream].append((attempt.prompt_tokens, attempt.completion_tokens))
        if got.status != 200:
            assert record.charge_pico == record.cost_pico == 0
    # Each count that a cloud gave is an attempt's, once; and there is no other.
    assert {name: Counter(said[name]) for name in CLOUDS} == {
        name: Counter(clouds.billed[name]) for name in CLOUDS
    }
    bills = {
        name: sum(cost_of(Usage(*counted), PRICES[name]) for counted in clouds.billed[name])
        for name in CLOUDS
    }
    payloads = [call_record.encode(record) for record in records]
    entry = Ledger(engine)
    chance.shuffle(payloads)
    # A gateway that was killed ships again what it cannot know to have arrived.
    assert entry.ingest(payloads[:90]) == 90
    assert entry.ingest(payloads[40:]) == 60
    assert Ledger(engine).ingest(payloads) == 0
    with engine.connect() as connection:
        by_row = dict(
            connection.execute(
                select(ledger.c.upstream, func.sum(ledger.c.cost_pico)).group_by(ledger.c.upstream)
            ).all()
        )
        borne = dict(
            connection.execute(
                select(platform_costs.c.upstream, func.sum(platform_costs.c.cost_pico)).group_by(
                    platform_costs.c.upstream
                )
            ).all()
        )
        sums = {
            row[0]: (int(row[1]), int(row[2]))
            for row in connection.execute(
                select(
                    usage_hourly.c.upstream,
                    func.sum(usage_hourly.c.cost_pico),
                    func.sum(usage_hourly.c.platform_cost_pico),
                ).group_by(usage_hourly.c.upstream)
            )
        }
        accounts = {
            account: int(amount)
            for account, amount in connection.execute(
                select(ledger_entries.c.account, func.sum(ledger_entries.c.amount_pico)).group_by(
                    ledger_entries.c.account
                )
            )
        }
        shown = books.usage(connection, group_by=["upstream"], from_s=0, until_s=2**40)
    assert any(borne.values()), "some attempts were paid for in vain"
    for name in CLOUDS:
        cost, overhead = int(by_row.get(name) or 0), int(borne.get(name) or 0)
        assert cost + overhead == bills[name], name
        assert sums.get(name, (0, 0)) == (cost, overhead)
        assert accounts.get(f"upstream:{name}", 0) == bills[name]
    assert sum(accounts.values()) == 0
    assert -accounts["platform_cost"] == sum(map(int, borne.values()))
    assert {row["upstream"]: row["platform_cost_pico"] for row in shown if row["upstream"]} == {
        name: overhead for name, (_, overhead) in sums.items() if name
    }


# --- right candidates ---------------------------------------------------------------------------


# walk-through 1: Chinese sent as content parts was routed as English
WRITER = Routing(
    explore=0.0,
    models={
        "writer": (
            VirtualModelEntry("openai", when=When(language="zh")),
            VirtualModelEntry("moonshot", when=When(language="en")),
        )
    },
)


@pytest.mark.parametrize("parts", [False, True])
@pytest.mark.parametrize("api", ["chat/completions", "messages", "responses"])
@pytest.mark.parametrize(("text", "upstream"), [
    ("请审查这份合同的违约条款", "openai"), ("Please review this contract.", "moonshot"),
])  # fmt: skip
def test_the_language_of_parts_is_that_of_their_text(
    clouds: MoneyLab, api: str, parts: bool, text: str, upstream: str
) -> None:
    clouds.sell(*CLOUDS, routing=WRITER)
    kind = "input_text" if api == "responses" else "text"
    content: Any = [{"type": kind, "text": text}] if parts else text
    turn = [{"role": "user", "content": content}]
    body = {"input": turn} if api == "responses" else {"messages": turn}
    got = ask(clouds, api, model="writer", **body)
    assert (got.status, record_of(got).upstream) == (200, upstream)


# walk-through 5: a missing credential of one upstream failed the call
def test_an_upstream_without_a_key_is_left_out_and_the_next_one_asked(clouds: MoneyLab) -> None:
    clouds.router.keyless_of = lambda upstreams: frozenset({"deepseek"})
    clouds.router._version = ""
    got = ask(clouds, **{"model": "any"})
    assert (got.status, record_of(got).upstream) == (200, "moonshot")
    assert ("deepseek", "no key") in [(r.upstream, r.excluded) for r in record_of(got).route]
    told = json.loads(clouds.ask("/api/v1/routes/explain", {"model": "any", "messages": HI}).body)
    assert told["chosen"] == "moonshot" and told["excluded"] == ["no key"]
    alone = ask(clouds, model="deepseek")
    assert alone.status == 503 and alone.error["code"] == "no_upstream"
    assert "env:" not in alone.error["message"]


# walk-through 4: an upstream without a zone counted as being in the country
def test_residency_is_closed_where_nobody_says_where_an_upstream_is(clouds: MoneyLab) -> None:
    rule = Routing(explore=0.0, residency={"*": ("cn", "own")})
    clouds.sell(*CLOUDS, routing=rule, zone="")
    got = ask(clouds)
    assert got.status == 503 and not got.sent
    clouds.sell(*CLOUDS, zone="")
    assert ask(clouds).status == 200, "without a rule it serves"


# --- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "thinks"), [("deepseek-chat", False), ("deepseek-reasoner", True)]
)
def test_a_known_name_is_another_name_of_what_is_served(
    clouds: MoneyLab, name: str, thinks: bool
) -> None:
    clouds.sell("deepseek", aliases={name: Alias("deepseek", thinks)})
    for api in ("chat/completions", "messages", "responses"):
        got = ask(clouds, api, model=name)
        assert (got.status, record_of(got).model_asked) == (200, "deepseek")
        assert got.sent[-1]["thinking"]["type"] == ("enabled" if thinks else "disabled")
        assert "model=deepseek" in got.says("x-tc-adapted")
    told = ask(clouds, model=name, thinking={"type": "enabled"}).sent[-1]
    assert told["thinking"]["type"] == "enabled", "the call's own word goes before the name's"


def test_aliases_are_told_beside_the_model_and_found_by_name(clouds: MoneyLab) -> None:
    clouds.sell("deepseek", aliases={"deepseek-chat": Alias("deepseek", False)})
    listed = json.loads(clouds.ask("/v1/models", b"", method="GET").body)["data"]
    assert {model["id"] for model in listed} == {"any", "deepseek"}
    assert {m["id"]: m.get("aliases") for m in listed}["deepseek"] == ["deepseek-chat"]
    one = json.loads(clouds.ask("/v1/models/deepseek-chat", b"", method="GET").body)
    assert one["id"] == "deepseek"


def test_an_unknown_name_is_told_the_nearest_that_the_key_may_use(clouds: MoneyLab) -> None:
    clouds.sell("deepseek", "openai", aliases={"deepseek-chat": Alias("deepseek", False)})
    got = ask(clouds, model="deepseek-chatt")
    assert got.status == 404
    assert "`deepseek-chat`" in got.error["message"]


# own: an image to a text model took the engine out for all (sdk fault 5)
def test_a_picture_to_a_model_that_is_blind_is_refused_before_any_upstream(
    clouds: MoneyLab,
) -> None:
    served = _snapshot(clouds.vendors)
    offer = Offer("deepseek", "m", PRICES["deepseek"], abilities=("tools", "json_schema"))
    clouds.served.replace(
        Snapshot("blind", {"deepseek": served.upstreams["deepseek"]},
                 {"any": ModelRoute("any", "chat", (offer,))})
    )  # fmt: skip
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    for _ in range(5):
        got = ask(clouds, messages=[{"role": "user", "content": [picture]}])
        assert got.status == 400 and not got.sent
        assert (got.error["code"], got.error["param"]) == ("unsupported_parameter", "messages")
    assert ask(clouds).sent
    assert Upstream("x").zone == ""
