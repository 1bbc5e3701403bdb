"""Router: plans a call by what is configured and chooses among upstreams by their state."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Set

import msgspec
from msgspec import Raw

from tokenschain.core.call import Call
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.openai_chat import Api
from tokenschain.core.formats.thinking import THINKING_KEYS
from tokenschain.core.keyed_rates import NOT_FOUND_PER_MINUTE, KeyedRates
from tokenschain.core.routing import virtual_models
from tokenschain.core.routing.abilities import able, is_blind
from tokenschain.core.routing.admission import (
    RULES,
    ConcurrencyLimit,
    Priority,
    Service,
)
from tokenschain.core.routing.health import REGION_S, REGION_SHARE, Health
from tokenschain.core.routing.near_names import near_names
from tokenschain.core.routing.regions import round_trip_s
from tokenschain.core.routing.residency import confined, refusal, rules_for
from tokenschain.core.routing.selection import (
    BUCKETS,
    BULK_LOAD_MAX,
    MANY,
    NO_AFFINITY,
    QUIET_S,
    SLO_S_PER_PROMPT_TOKEN,
    Affinity,
    Decision,
    Endpoint,
    Need,
    beside_interactive,
    decide,
    no_room,
)
from tokenschain.core.snapshot import (
    Alias,
    Candidate,
    ModelRoute,
    Plan,
    Routing,
    Served,
    Upstream,
    own_id,
)
from tokenschain.core.snapshot.routing_policy import POLICIES, Policy, narrowest
from tokenschain.core.snapshot.zones import EVERYBODY, NONE, Sovereignty
from tokenschain.core.tenancy import KeyGrant, may_use

_KINDS = {Api.EMBEDDINGS: "embedding", Api.RERANK: "rerank"}
PREFIX_BYTES = tuple(
    1_024 * kib for kib in (2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
)
"""Beginnings of a prompt that are remembered; vendors cache from about 1,000 tokens on."""
NEAR_NAMES_MAX = 1_000
"""Unknown model names whose nearest known ones are remembered."""
PLANNED_MAX = 20_000
"""Plans by key, model and API that are remembered."""
NO_KEY = "no key"
"""Why an upstream is left out that no key can be had for."""
ALL_TRIED = "all tried"
"""Why no upstream is left to choose: each was tried, or takes no calls."""
PREFIXES_MAX = 50_000
PREFIX_HOLDERS_MAX = 4
"""Upstreams remembered for each, the latest."""
_BYTES_PER_TOKEN = 4
_PREFIX_TOKENS_MIN = PREFIX_BYTES[0] / _BYTES_PER_TOKEN
_OUTPUT_FIRST = 256.0
_NO_RULES = Routing()


class _Known(msgspec.Struct):
    """A plan's candidates, and what saves a look at each."""

    candidates: tuple[Candidate, ...]
    endpoints: list[Endpoint]
    window_min: int | None
    """The smallest context of all that are known."""
    told_apart: bool
    """Whether the abilities of any are known."""
    blind: bool
    """Whether all are known not to take pictures."""
    interactive_s: float = -QUIET_S
    """Unix time of the last interactive call."""
    last: Endpoint | None = None
    """Of many, the one that was chosen the last time."""


_NONE_KNOWN = _Known((), [], None, False, True)


class Router:
    """Plans calls and chooses among upstreams; owns what this process knows of them."""

    def __init__(
        self,
        served: Served,
        clock: Callable[[], float],
        unix_time: Callable[[], float],
        random: Callable[[], float],
        not_found_per_minute: int = NOT_FOUND_PER_MINUTE,
        sovereignty: Sovereignty = NONE,
    ) -> None:
        """
        Args:
            clock: monotonic seconds.
            unix_time: Unix time, for prices by the hour.
            random: uniform in [0, 1).
            not_found_per_minute: calls of one key for models that there are not.
            sovereignty: this machine's own mode, whatever is configured.
        """
        self._not_found = KeyedRates(not_found_per_minute)
        self._served = served
        self._sovereignty = sovereignty
        self._clock = clock
        self._unix_time = unix_time
        self._random = random
        self._generation = -1
        self._version = ""
        self._planned: dict[tuple[str, str, str], tuple[KeyGrant, Plan]] = {}
        self._rules = _NO_RULES
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        self._healths: dict[str, Health] = {}
        self._lists: dict[int, _Known] = {}
        self._latest = _NONE_KNOWN
        """Of those, the one looked up last: a call asks more than once."""
        self._policies: dict[tuple[str, str, str], Policy] = {}
        self._everyones_policy: Policy | None = None
        """Where no tenant, project or model has one of its own."""
        self._zones: dict[tuple[str, str, str, str, str], frozenset[str] | None] = {}
        self._outputs: dict[str, float] = {}
        self._near: dict[tuple[str, str], tuple[str, ...]] = {}
        self._keyless: frozenset[str] = frozenset()
        self._narrows = False
        """Whether the rules or missing keys leave out upstreams for any caller."""
        self.keyless_of: Callable[[Iterable[Upstream]], frozenset[str]] = lambda upstreams: (
            frozenset()
        )
        """The ids of those upstreams that no key can be had for; see `note_keys`."""
        self._prefixes: OrderedDict[int, tuple[Endpoint, ...]] = OrderedDict()
        self.service = Service()

    def plan(self, call: Call, caller: KeyGrant) -> Plan:
        """See `core.ports.RoutePlanner.plan`."""
        served = self._served
        if served.generation != self._generation:
            self._renew()
        api = call.request.api_format.name
        known = self._planned.get((caller.key_id, call.parsed.model, api))
        if known is not None and known[0] is caller:
            return known[1]
        return self._plan(call, caller, api)

    def _plan(self, call: Call, caller: KeyGrant, api: str) -> Plan:
        directory = self._served.directory(caller.tenant)
        parsed = call.parsed
        asked = parsed.model
        alias = directory.alias(asked)
        if alias is not None:
            _resolve(call, alias)
        kind = _KINDS.get(parsed.api, "chat")
        entries = directory.virtual_model(parsed.model)
        if entries is None and directory.plan_of(parsed.model) is None:
            raise self._unknown_model(caller, asked)
        if not may_use(caller, parsed.model, api) and not (
            alias is not None and may_use(caller, asked, api)
        ):
            # As if there were none: names are not to be tried out.
            raise self._unknown_model(caller, asked)
        if entries is None:
            only = directory.plan(parsed.model, kind)
            if alias is None and not self._list(only).blind:
                # It depends on nothing else of a call: the next one has it at once.
                if len(self._planned) >= PLANNED_MAX:
                    self._planned.clear()
                self._planned[caller.key_id, asked, api] = caller, only
            else:
                self._check_abilities(call, only)
            return only
        traits = virtual_models.CallTraits(parsed, call.tags)
        tiers: list[Plan] = []
        for entry in virtual_models.ordered(entries, traits, self._random):
            found = directory.known(entry.model, kind)
            if found is not None:
                tiers += _tiers_of(found, entry.upstream)
        if not tiers:
            raise ApiError(
                "no_upstream", f"No entry of `{parsed.model}` fits this call.", param="model"
            )
        plan = Plan(tiers[0].route, tiers[0].candidates, tuple(tiers[1:]))
        self._check_abilities(call, plan)
        return plan

    def _unknown_model(self, caller: KeyGrant, asked: str) -> ApiError:
        """A 404 that names what the caller may have meant, of the models that it may use; 429
        where a key asks so too often, which no limit counts."""
        wait_s = self._not_found.wait_s(caller.key_id, self._clock())
        if wait_s:
            return ApiError(
                "rate_limit_exceeded",
                "This key has asked too often for models that it may not use or that do not exist.",
                param="model",
                retry_after_s=wait_s,
            )
        near = self._near.get((caller.key_id, asked))
        if near is None:
            if len(self._near) >= NEAR_NAMES_MAX:
                self._near.clear()
            directory = self._served.directory(caller.tenant)
            names = (*(name for name, _ in directory.names()), *directory.aliases())
            known = [name for name in names if may_use(caller, directory.named(name))]
            near = near_names(asked, known)
            self._near[caller.key_id, asked] = near
        hint = f" Did you mean {' or '.join(f'`{name}`' for name in near)}?" if near else ""
        return ApiError(
            "model_not_found",
            f"The model `{asked[:200]}` does not exist here, or this API key may not use it.{hint} "
            "GET /v1/models lists what there is.",
            param="model",
        )

    def _check_abilities(self, call: Call, plan: Plan) -> None:
        """Refuse a picture that no upstream of the plan can look at: the caller's to mend.

        Raises:
            ApiError: `unsupported_parameter`.
        """
        if not all(self._list(tier).blind for tier in (plan, *plan.others)):
            return
        parsed = call.parsed
        if "vision" not in virtual_models.needs_of(parsed):
            return
        if call.request.headers.get(b"x-tc-unsupported") == b"drop":
            return  # the bridge leaves them out and says so
        raise ApiError(
            "unsupported_parameter",
            f"The model `{parsed.model}` does not take images (`image_url`, `image`).",
            param="messages" if parsed.native is None else parsed.native.names.of("messages"),
        )

    def need(self, call: Call, plan: Plan, priority: Priority) -> Need:
        """What is known of a call before it is placed."""
        parsed = call.parsed
        tokens, most = parsed.prompt_tokens_estimate, parsed.output_tokens_max
        expected = self._outputs.get(plan.route.name, _OUTPUT_FIRST)
        if most is not None and most < expected:
            expected = most
        return Need(
            tokens,
            int(expected) * parsed.choices,
            self._rules.first_token_slo_s + SLO_S_PER_PROMPT_TOKEN * tokens,
            () if tokens < _PREFIX_TOKENS_MIN else self._hashes(call),
            self._unix_time(),
            RULES[priority].load_max,
            bisect_left(BUCKETS, tokens),
        )

    def lone(self, call: Call, plan: Plan, priority: Priority) -> tuple[Endpoint, Need] | None:
        """The only upstream there is, if it has room: there is nothing to weigh."""
        if plan.others or self._narrows:
            return None
        known = self._latest
        if known.candidates is not plan.candidates:
            known = self._list(plan)
        if len(known.endpoints) != 1:
            return None
        endpoint, caller = known.endpoints[0], call.caller
        if caller is not None and caller.data_class:
            return None
        load_max = RULES[priority].load_max
        if load_max <= BULK_LOAD_MAX:
            return None  # it may have to give way
        if endpoint.inflight + endpoint.reserved >= endpoint.concurrency_limit.calls * load_max:
            return None
        if load_max >= 1:
            known.interactive_s = self._unix_time()
        # Of no size class: nothing is weighed by it.
        return endpoint, Need(call.parsed.prompt_tokens_estimate, 0, self._rules.first_token_slo_s)

    def place(
        self,
        call: Call,
        caller: KeyGrant,
        plan: Plan,
        need: Need,
        tried: Set[Endpoint],
        waited_s: float = 0.0,
        starved: bool = False,
    ) -> Decision:
        """Choose an upstream that was not tried; no endpoint when there is no room in any.

        Args:
            starved: bulk that gives way to no interactive call any more.

        Raises:
            ApiError: `no_upstream`, when the data may go to none of them, or none takes calls.
        """
        policy = self._everyones_policy or self._policy(caller, call.parsed.model)
        decision = None
        left_out: list[tuple[str, str]] = []
        for tier in (plan, *plan.others) if plan.others else (plan,):
            known = self._latest
            if known.candidates is not tier.candidates:
                known = self._list(tier)
            endpoints, window = known.endpoints, known.window_min
            if (
                self._narrows
                or caller.data_class
                or known.told_apart
                or (window is not None and window < need.prompt_tokens)
            ):
                endpoints, out = self._allowed(tier, call, caller, need)
                left_out += out
            left = [e for e in endpoints if e not in tried] if tried else endpoints
            if not left:
                continue
            if need.load_max >= 1:
                known.interactive_s = need.now_s
            elif (
                need.load_max <= BULK_LOAD_MAX
                and self._gives_way(known, starved)
                and not (left := beside_interactive(left))
            ):
                decision = no_room(endpoints)
                continue
            many = len(left) > MANY and left is known.endpoints
            decision = decide(
                left,
                need,
                policy,
                self._clock(),
                self._random,
                self._affinity(need) if need.prefixes else NO_AFFINITY,
                self._rules.explore,
                known.last if many else None,
                waited_s,
            )
            if many:
                known.last = decision.endpoint
            if left_out:
                decision.left_out, decision.obvious = tuple(left_out), False
            if decision.endpoint is not None:
                return decision
        if decision is None and not tried:
            renewed = self.current(call, caller, plan)
            if renewed is not plan:
                return self.place(call, caller, renewed, need, tried, waited_s)
            raise self._nowhere(call, caller, left_out)
        return decision or Decision(None, ALL_TRIED, 1.0, (), ())

    def _gives_way(self, known: _Known, starved: bool) -> bool:
        """Whether bulk has to wait, as interactive calls came lately."""
        return not starved and self._unix_time() < known.interactive_s + QUIET_S

    def current(self, call: Call, caller: KeyGrant, plan: Plan) -> Plan:
        """The plan, or another by the configuration in force, where none of its upstreams takes
        calls any more: between a plan and the call's turn they may have been drained or removed.

        Raises:
            ApiError: nothing takes the call by that configuration either.
        """
        if any(self._list(tier).endpoints for tier in (plan, *plan.others)):
            return plan
        return self.plan(call, caller)

    def load(self, plan: Plan) -> float:
        """See `core.ports.Load`."""
        loads = [e.inflight / max(1.0, e.concurrency_limit.calls) for e in self.endpoints(plan)]
        return min(loads, default=1.0)

    def endpoints(self, plan: Plan) -> list[Endpoint]:
        """Everything of a plan, for calls that wait for room."""
        return [e for tier in (plan, *plan.others) for e in self._list(tier).endpoints]

    def opened(self, endpoint: Endpoint, need: Need) -> None:
        """An upstream began to answer: it now knows the beginning of the prompt."""
        for prefix in need.prefixes:
            known = self._prefixes.get(prefix, ())
            if endpoint not in known:
                self._prefixes[prefix] = (endpoint, *known[: PREFIX_HOLDERS_MAX - 1])
            self._prefixes.move_to_end(prefix)
        while len(self._prefixes) > PREFIXES_MAX:
            self._prefixes.popitem(last=False)

    def breaker_opened(self, endpoint: Endpoint) -> dict[str, float]:
        """An upstream was given up: so is its region, when most of it went at once.

        Returns:
            The other upstreams that are ejected with it, and after how many seconds they are
            tried again.
        """
        upstream = endpoint.candidate.upstream
        if not upstream.region or upstream.tenant:
            return {}  # what a tenant says of its own upstreams is no word on a region
        now = self._clock()
        healths = {
            e.name: e.health
            for e in self._endpoints.values()
            if e.candidate.upstream.region == upstream.region and not e.candidate.upstream.tenant
        }
        gone = [h for h in healths.values() if h.is_open and now - h.opened_at <= REGION_S]
        if len(healths) < 2 or len(gone) < max(2, REGION_SHARE * len(healths)):
            return {}
        others = [name for name, health in healths.items() if not health.is_open]
        for name in others:
            healths[name].eject(now, self._random())
        return {name: healths[name].ready_in_s(now) for name in others}

    @property
    def hedges(self) -> bool:
        """Whether a few calls are asked twice, to shorten the longest waits."""
        return self._rules.hedge

    def learned(self, route: ModelRoute, output_tokens: int) -> None:
        """How long an answer was."""
        before = self._outputs.get(route.name, _OUTPUT_FIRST)
        self._outputs[route.name] = before + 0.05 * (output_tokens - before)

    def policy_name(self, caller: KeyGrant, model: str) -> str:
        """The policy in force for a call."""
        rules = self._rules
        return narrowest(rules.policy_overrides, caller.tenant, caller.project, model, rules.policy)

    # --- what is configured ---------------------------------------------------------

    def renew(self) -> None:
        """Serve by another configuration at once: waiting calls go where it says."""
        if self._served.generation != self._generation:
            self._renew()

    def _renew(self) -> None:
        """Serve by a new configuration; what was learned of an upstream stays."""
        snapshot = self._served.get()
        self._generation = self._served.generation
        self._planned.clear()
        if snapshot.version == self._version:
            return  # only keys have changed
        self._version = snapshot.version
        self._rules = confined(snapshot.routing, {EVERYBODY: self._sovereignty})
        self._lists.clear()
        self._latest = _NONE_KNOWN
        self._policies.clear()
        rules = self._rules
        self._everyones_policy = None if rules.policy_overrides else _policy_of(rules, rules.policy)
        self._zones.clear()
        self._near.clear()
        self.note_keys()

    def forget_gone(self) -> frozenset[str]:
        """Let go of upstreams that have left the configuration, once their last calls are over.

        Returns:
            The ids of those that are left.
        """
        there = self._served.get().upstreams if self._version else {}
        for key, endpoint in list(self._endpoints.items()):
            if endpoint.name not in there and not endpoint.inflight and not endpoint.reserved:
                del self._endpoints[key]
        left = {*there, *(endpoint.name for endpoint in self._endpoints.values())}
        for name in [name for name in self._healths if name not in left]:
            del self._healths[name]
        return frozenset(left)

    def note_keys(self) -> frozenset[str]:
        """Look again which upstreams have a key; gives the ids of those that have none."""
        if self._version:
            self._keyless = self.keyless_of(self._served.get().upstreams.values())
        self._narrows = bool(self._keyless or self._rules.residency)
        return self._keyless

    def _list(self, plan: Plan) -> _Known:
        candidates = plan.candidates
        known = self._lists.get(id(candidates))
        if known is None or known.candidates is not candidates:
            upstreams = self._served.get().upstreams
            taking = [c for c in candidates if _takes_calls(c, upstreams)]
            windows = [c.offer.context_window for c in taking if c.offer.context_window]
            unable = any(c.offer.abilities is not None for c in taking)
            known = _Known(
                candidates,
                [self._endpoint(c, upstreams[c.upstream.id]) for c in taking],
                min(windows, default=None),
                unable,
                all(map(is_blind, taking)),
            )
            if len(self._lists) > 10_000:
                self._lists.clear()
            self._lists[id(candidates)] = known
        self._latest = known
        return known

    @property
    def upstreams(self) -> list[Upstream]:
        """Those of the configuration in force; none before the first."""
        return list(self._served.get().upstreams.values()) if self._version else []

    @property
    def endpoints_by_key(self) -> Mapping[tuple[str, str], Endpoint]:
        """All that were ever weighed, by the upstream's id and the model's."""
        return self._endpoints

    @property
    def known(self) -> list[Endpoint]:
        """All that were ever weighed."""
        return list(self._endpoints.values())

    @property
    def healths(self) -> dict[str, Health]:
        """Of all upstreams that were ever weighed, by id."""
        return self._healths

    def endpoint_of(self, candidate: Candidate) -> Endpoint:
        """What is known of a candidate."""
        return self._endpoints[candidate.upstream.id, candidate.offer.model]

    def _endpoint(self, candidate: Candidate, upstream: Upstream) -> Endpoint:
        """What is known of a candidate.

        Args:
            upstream: as the snapshot in force has it. A call that was planned before, and waits
                or goes on, may have an earlier one.
        """
        key = (upstream.id, candidate.offer.model)
        most = min(upstream.concurrency_max, upstream.limits.connections_max)
        endpoint = self._endpoints.get(key)
        if candidate.upstream is not upstream:
            if endpoint is not None:
                return endpoint
            candidate = Candidate(upstream, candidate.offer)
        if endpoint is None:
            endpoint = self._endpoints[key] = Endpoint(
                candidate,
                ConcurrencyLimit(most),
                round_trip_s(self._rules.region, upstream.region),
                self._rules.usd_cny,
                self._healths.setdefault(upstream.id, Health()),
            )
        endpoint.renew(candidate, self._rules.usd_cny)
        endpoint.concurrency_limit.allow(most)
        return endpoint

    def _policy(self, caller: KeyGrant, model: str) -> Policy:
        key = (caller.tenant, caller.project, model)
        policy = self._policies.get(key)
        if policy is None:
            if len(self._policies) > 10_000:
                self._policies.clear()
            policy = _policy_of(self._rules, self.policy_name(caller, model))
            self._policies[key] = policy
        return policy

    def _allowed(
        self, tier: Plan, call: Call, caller: KeyGrant, need: Need
    ) -> tuple[list[Endpoint], list[tuple[str, str]]]:
        """Who may serve a call, and why the others may not."""
        known = self._list(tier)
        endpoints, window = known.endpoints, known.window_min
        left_out: list[tuple[str, str]] = []
        if self._rules.residency or caller.data_class:
            zones = self._zones_of(caller, call.parsed.model, tier.route.name)
            if zones is not None:
                left_out = [
                    (e.name, f"data may not go to zone {e.candidate.upstream.zone or 'unknown'}")
                    for e in endpoints
                    if e.candidate.upstream.zone not in zones
                ]
                if left_out:
                    endpoints = [e for e in endpoints if e.candidate.upstream.zone in zones]
        if self._keyless:
            left_out += [(e.name, NO_KEY) for e in endpoints if e.name in self._keyless]
            endpoints = [e for e in endpoints if e.name not in self._keyless]
        if known.told_apart or (window is not None and window < need.prompt_tokens):
            fit = able(endpoints, call.parsed, need)
            if len(fit) < len(endpoints):
                left_out += [(e.name, "not able") for e in endpoints if e not in fit]
            endpoints = fit
        return endpoints, left_out

    def may_go_to(self, zones: frozenset[str], call: Call, caller: KeyGrant, plan: Plan) -> bool:
        """Whether residency lets the texts of a call that has its plan go to all these zones."""
        allowed = (
            self._zones_of(caller, call.parsed.model, tier.route.name)
            for tier in (plan, *plan.others)
        )
        return all(rule is None or zones <= rule for rule in allowed)

    def _zones_of(self, caller: KeyGrant, asked: str, served: str) -> frozenset[str] | None:
        """The zones that are in every rule which applies to a call; None where none does.

        Args:
            asked: the name that the caller gave, and `served`, that of the model behind it: a
                rule for a model holds by whatever name it is called.
        """
        key = (caller.tenant, caller.project, caller.data_class, asked, served)
        if key not in self._zones:
            if len(self._zones) > 10_000:
                self._zones.clear()
            models = (asked, served.removeprefix(own_id(caller.tenant, "")))
            rules = rules_for(self._rules.residency, caller, models).values()
            self._zones[key] = frozenset.intersection(*rules) if rules else None
        return self._zones[key]

    def _nowhere(self, call: Call, caller: KeyGrant, left_out: list[tuple[str, str]]) -> ApiError:
        """Nobody may serve the call: where its data may go, or for want of a key."""
        if any(why == NO_KEY for _, why in left_out):
            why = "No upstream of the model has a usable key."
            return ApiError("no_upstream", why, param="model")
        model = call.parsed.model
        return refusal(rules_for(self._rules.residency, caller, (model,)), model)

    # --- prefixes ---------------------------------------------------------------------

    def _hashes(self, call: Call) -> tuple[int, ...]:
        raw = call.parsed.fields.get("messages")
        if raw is None:
            return ()
        # Of one tenant: the time must not tell one tenant what another asked.
        one = hash((call.caller.tenant if call.caller is not None else "", call.parsed.model))
        text, start, found = memoryview(raw), 0, []
        for end in PREFIX_BYTES:
            if len(text) < end:
                break
            one = hash((one, bytes(text[start:end])))
            found.append(one)
            start = end
        return tuple(found)

    def _affinity(self, need: Need) -> Affinity:
        found: dict[Endpoint, int] = {}
        for at, prefix in enumerate(need.prefixes):
            for endpoint in self._prefixes.get(prefix, ()):
                found[endpoint] = PREFIX_BYTES[at] // _BYTES_PER_TOKEN
        return found


def _policy_of(rules: Routing, name: str) -> Policy:
    return rules.custom_policies.get(name) or POLICIES[name]


def check_policies(rules: Routing) -> None:
    """
    Raises:
        ValueError: a policy is named that there is none of.
    """
    for name in (rules.policy, *rules.policy_overrides.values()):
        if name not in rules.custom_policies and name not in POLICIES:
            raise ValueError(f"there is no routing policy `{name}`")


def _takes_calls(candidate: Candidate, upstreams: Mapping[str, Upstream]) -> bool:
    """Whether new calls go to a candidate by the snapshot in force; it may be of an earlier one."""
    now = upstreams.get(candidate.upstream.id)
    return now is not None and not now.drain and now.tenant == candidate.upstream.tenant


def _tiers_of(plan: Plan, upstream: str | None) -> list[Plan]:
    """What of a model's plan an entry of a virtual model asks, in order.

    Args:
        upstream: the only one that is asked; None for any.
    """
    tiers = (plan, *plan.others)
    if upstream is None:
        return [tier for tier in tiers if tier.candidates]
    kept = ((t.route, tuple(c for c in t.candidates if c.upstream.id == upstream)) for t in tiers)
    return [Plan(route, candidates) for route, candidates in kept if candidates]


def _resolve(call: Call, alias: Alias) -> None:
    """The call is for the model that an old name now means, thinking or not as the name did."""
    parsed = call.parsed
    parsed.model = alias.model
    parsed.mended += (f"model={alias.model}",)
    if alias.thinking is not None and not THINKING_KEYS & parsed.fields.keys():
        parsed.fields["thinking"] = Raw(b'{"type":"%b"}' % _SWITCH[alias.thinking])


_SWITCH = {True: b"enabled", False: b"disabled"}
