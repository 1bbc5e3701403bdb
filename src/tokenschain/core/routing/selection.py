"""Upstream selection: expected latency and cost of each candidate, and the choice by policy.

Hard filters, then those with room that meet the SLO, then the policy's order among them;
when none has room, the one expected to speak first. A weighted sum ranks only ties and explains:
used as the rule it was worse than least-in-flight (docs/decisions/0009-routing.md).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from tokenschain.core.pricing.catalog import Occasion, Usage, cost_of
from tokenschain.core.routing.admission import RULES, USED_UP, ConcurrencyLimit, Priority
from tokenschain.core.routing.health import MISSED_MIN, SHARE_MIN, Health
from tokenschain.core.snapshot import Candidate
from tokenschain.core.snapshot.routing_policy import Objective, Policy
from tokenschain.core.snapshot.zones import ZONES

BUCKETS = (512, 2_048, 8_192)
"""Upper ends of the prompt sizes that are told apart, tokens; beyond is one more."""
PEAK_DECAY_S = 10.0
"""linkerd's peak-EWMA: a worse sample counts at once and fades with this."""
PER_TOKEN_PRIOR_S = 1e-4
"""Prefill of a prompt token before anything was measured: between an H100 and an A100 under a
70B model (Splitwise). Without it the first burst would all go to the cheapest."""
LEARNED, LEARNED_TOKENS_2 = 0.1, 1e6
"""Of an error, a sample mends this share of the time a prompt token takes; much less where it is
of far fewer than 1,000 tokens (the square), whose fixed costs would be taken for theirs."""
BASE_FALL, BASE_RISE = 0.2, 1.005
"""The base falls by this share of what a sample was faster, and else creeps up, so that it can be
learned anew."""
UNSEEN_GAIN, UNSEEN_DECAY_S, UNSEEN_MIN_S = 0.3, 2.0, 0.01
"""What the calls known do not explain is averaged over few samples and forgotten in seconds."""
OWN_SHARE = 0.5
"""A prompt that takes this share of the time left makes itself late; a shorter one only what is
before it does: where nothing is, it is no use to keep it waiting."""
NO_DEADLINE = -math.inf
"""Of a call that waits: better late than never."""
MANY = 8
"""Of more candidates, few are looked at: the one that was best the last time and two others
(power of d choices with a memory: Mitzenmacher, Prabhakar and Shah, 2002)."""
DRAWN_AT_FIRST = 4
BACKLOG_SLO_MAX = 0.25
"""An upstream of several with prompts for more than this share of the SLO before it is full:
long prompts fill it long before their number does."""
QUIET_S = 5.0
"""Bulk gives way while an interactive call has come within this time."""
BULK_SLOTS_SHARE = 0.1
"""Of an upstream's places, what bulk takes then: each call in a batch makes its steps longer."""
BULK_LOAD_MAX = RULES[Priority.BULK].load_max
ROOM_SHARE = 0.8
"""An upstream with less of its limit in use has room."""
ROOM_AT_LEAST = ROOM_SHARE * SHARE_MIN
"""So much it may always have in use."""
SCORE_COST_MAX = 11.0
"""So many times the cheapest are as dear as more."""
RATES_FRESH_S = 60.0
TOKENS_TIMED_MIN = 8
"""Shorter answers say little about the time between tokens."""
SLO_S_PER_PROMPT_TOKEN = 1e-4
"""What is promised for a short prompt grows with its length: twice the prefill time of an H100
(Splitwise: 0.055 ms a token)."""
_UNKNOWN_COST = 1e30
_OfSize = tuple[float, float, float, float, float, float]
"""What is known of prompts of one size: the peak of the time to the first token, when it was seen,
pico-yuan for a fresh, a cached and an output token, and until when those hold, in Unix time."""
_UNSEEN: _OfSize = (0.0, 0.0, 0.0, 0.0, 0.0, -math.inf)
# Looked up once: calls compare with them, and work this out, for each candidate.
_BY_LATENCY, _BY_SCORE = Objective.LATENCY, Objective.SCORE
_exp = math.exp


class Need(msgspec.Struct, frozen=True, gc=False):
    """What is known of a call before it is placed."""

    prompt_tokens: int
    output_tokens: int
    slo_s: float
    prefixes: tuple[int, ...] = ()
    """Hashes of ever longer beginnings of the prompt."""
    now_s: float = 0.0
    """Unix time, for prices by the hour."""
    load_max: float = 1.0
    """Share of an upstream's limit that calls of this priority may fill."""
    bucket: int = 0
    """Of the prompt's size; see `bucket_of`."""


class Endpoint:
    """One offer at one upstream, with what this process knows of it."""

    __slots__ = (
        "_base_s", "_idle_per_token_s", "_measured", "_per_token_s", "_sizes", "_unseen", "bulk",
        "candidate", "concurrency_limit", "elsewhere_tokens", "health", "inflight", "name",
        "others", "prefill_tokens", "promised_tokens", "reserved", "token_s", "usd_cny",
    )  # fmt: skip

    def __init__(
        self, candidate: Candidate, concurrency_limit: ConcurrencyLimit, base_s: float = 0.0,
        usd_cny: float = 7.0, health: Health | None = None,
    ) -> None:  # fmt: skip
        """
        Args:
            base_s: the way there and back, before anything was measured.
            health: shared by all offers of the upstream.
        """
        self.candidate = candidate
        self.name = candidate.upstream.id
        self.concurrency_limit = concurrency_limit
        self.health = health or Health()
        self.usd_cny = usd_cny
        self.inflight = 0
        self.bulk = 0
        """Of them, those that are bulk."""
        self.reserved = 0
        """Places promised to calls that are about to go."""
        self.others = 0
        """Gateways that tell what they have sent there."""
        self.elsewhere_tokens = 0
        """Of those, what other gateways sent; see `core.routing.shared_load`."""
        self.prefill_tokens = self.promised_tokens = 0.0
        """Prompt tokens sent, promised a place or sent by other gateways, that no first token has
        come for yet."""
        self.token_s = 0.0
        """Time between two tokens, recent average; 0 when not known."""
        self._base_s = base_s
        self._per_token_s = self._idle_per_token_s = PER_TOKEN_PRIOR_S
        self._unseen = (0.0, 0.0)
        """Seconds that first tokens came later than the calls known explain, and when that was."""
        self._measured = False
        self._sizes = [_UNSEEN] * (len(BUCKETS) + 1)

    def renew(self, candidate: Candidate, usd_cny: float) -> None:
        """Another snapshot: what is configured may be other, what was measured stays."""
        if candidate is not self.candidate:
            self.candidate, self.usd_cny = candidate, usd_cny
            self._sizes = [(*known[:2], *_UNSEEN[2:]) for known in self._sizes]

    @property
    def zone(self) -> int:
        """Trust in where its data goes; higher is more, and least where nobody has said it."""
        zone = self.candidate.upstream.zone
        return ZONES.index(zone) if zone else -1

    # --- what is expected ---------------------------------------------------------

    def first_token_s(self, need: Need, now: float, cached_tokens: int = 0) -> float:
        """Expected time to the first token.

        Args:
            cached_tokens: of the prompt, that it is likely to have worked off before.
        """
        known = {self: cached_tokens} if cached_tokens else NO_AFFINITY
        return weigh((self,), need, need.slo_s, now, known)[0][0][1]

    def cost(self, need: Need) -> float:
        """Expected cost in pico-yuan; very high where the price is not known."""
        return weigh((self,), need, need.slo_s, need.now_s)[0][0][2]

    def alone_s(self, need: Need, cached_tokens: int = 0) -> float:
        """Expected time to the first token if nothing else were sent there."""
        return self._base_s + self._idle_per_token_s * (need.prompt_tokens - cached_tokens)

    def peak_s(self, need: Need, now: float) -> float:
        """Peak-EWMA of the time to the first token, for prompts of this size."""
        peak, at = self._sizes[need.bucket][:2]
        return peak * math.exp((at - now) / PEAK_DECAY_S) if peak else self._base_s

    def _priced_anew(self, need: Need) -> _OfSize:
        """What is known of prompts of the call's size, with the prices of its hour."""
        peak, at = self._sizes[need.bucket][:2]
        made = self._sizes[need.bucket] = (peak, at, *self._rates_for(need))
        return made

    def _rates_for(self, need: Need) -> tuple[float, float, float, float]:
        price, until_s = self.candidate.offer.price, need.now_s + RATES_FRESH_S
        if price is None:
            return _UNKNOWN_COST, _UNKNOWN_COST, _UNKNOWN_COST, until_s
        tokens, out = max(1, need.prompt_tokens), max(1, need.output_tokens)
        occasion = Occasion(False, need.now_s)
        rate = 1.0 if price.currency == "CNY" else self.usd_cny
        whole = cost_of(Usage(tokens, out), price, occasion)
        output_only = whole - cost_of(Usage(tokens, 0), price, occasion)
        cached = cost_of(Usage(tokens, out, tokens), price, occasion) - output_only
        given = (whole - output_only, cached, output_only)
        return given[0] * rate / tokens, given[1] * rate / tokens, given[2] * rate / out, until_s

    @property
    def backlog_s(self) -> float:
        """How long the prompts take that were sent and not begun to be answered."""
        return self._per_token_s * self.prefill_tokens

    # --- what is learned ----------------------------------------------------------

    def send_elsewhere(self, prompt_tokens: int) -> None:
        """So many prompt tokens other gateways have sent there."""
        self.prefill_tokens += prompt_tokens - self.elsewhere_tokens
        self.elsewhere_tokens = prompt_tokens

    def promise(self, prompt_tokens: int) -> None:
        """A call gets a place that is about to go there: others see it as if it had."""
        self.reserved += 1
        self.promised_tokens += prompt_tokens
        self.prefill_tokens += prompt_tokens

    def withdraw(self, prompt_tokens: int) -> None:
        """The promised place is taken now, or not needed."""
        self.reserved -= 1
        self.promised_tokens -= prompt_tokens
        self.prefill_tokens -= prompt_tokens

    def begin(self, prompt_tokens: int, *, bulk: bool = False) -> float:
        """A call goes there; gives the prompt tokens ahead of its first token. Whether it is bulk
        is said again when it leaves: by `answered` or `ended`, once."""
        self.inflight += 1
        if bulk:
            self.bulk += 1
        self.prefill_tokens += prompt_tokens
        ahead = self.prefill_tokens - self.promised_tokens
        if self.others:
            # Until they tell, they are taken to do the same: calls are spread evenly over gateways.
            self.prefill_tokens += self.others * prompt_tokens
            self.elsewhere_tokens += self.others * prompt_tokens
        if self.health.is_open:
            self.health.begin()  # the trial
        return ahead

    def spoke(self, prompt_tokens: int, ahead: float, took_s: float, now: float) -> None:
        """The first token came."""
        self.prefill_tokens -= prompt_tokens
        own, before = prompt_tokens, ahead - prompt_tokens
        idle_s, base = self._idle_per_token_s * own, self._base_s
        late_s = took_s - base - idle_s
        # Normalised least mean squares: of its own tokens where it was alone, else of the others'.
        if before > 0:
            late_s -= self._per_token_s * before
            mended = LEARNED * before * late_s / (before * before + LEARNED_TOKENS_2)
            self._per_token_s = max(0.0, self._per_token_s + mended)
        else:
            mended = LEARNED * own * late_s / (own * own + LEARNED_TOKENS_2)
            self._idle_per_token_s = max(0.0, self._idle_per_token_s + mended)
        if not self._measured:
            self._measured, self._base_s, late_s = True, max(base, base + late_s), 0.0
        elif late_s < 0.0:
            self._base_s = max(0.0, base + BASE_FALL * late_s)
        else:
            self._base_s = base * BASE_RISE
        unseen, since = self._unseen
        unseen *= math.exp((since - now) / UNSEEN_DECAY_S)
        self._unseen = max(0.0, unseen + UNSEEN_GAIN * (late_s - unseen)), now
        at = bucket_of(prompt_tokens)
        peak, since = self._sizes[at][:2]
        if took_s < peak:
            took_s += (peak - took_s) * math.exp((since - now) / PEAK_DECAY_S)
        self._sizes[at] = (took_s, now, *self._sizes[at][2:])

    def silent(self, prompt_tokens: int) -> None:
        """It ended before its first token."""
        self.prefill_tokens -= prompt_tokens

    def answered(
        self, prompt_tokens: int, tokens: int, took_s: float, *, bulk: bool = False
    ) -> None:
        """A whole answer came: it is not known when it began.

        Args:
            took_s: since it was sent.
        """
        self.prefill_tokens -= prompt_tokens
        inside, limit = self.inflight, self.concurrency_limit
        self.inflight = inside - 1
        if bulk:
            self.bulk -= 1
        if tokens and inside >= USED_UP * limit.calls:  # below that it learns nothing
            limit.answered(prompt_tokens, tokens, took_s, inside)

    def ended(
        self, prompt_tokens: int, tokens: int, spoke_s: float, took_s: float, *, bulk: bool = False
    ) -> None:
        """A call is over.

        Args:
            spoke_s: since its first token, 0 when that was not seen.
            took_s: since it was sent.
        """
        self.inflight -= 1
        if bulk:
            self.bulk -= 1
        if tokens:
            self.concurrency_limit.answered(prompt_tokens, tokens, took_s, self.inflight + 1)
        if spoke_s > 0 and tokens >= TOKENS_TIMED_MIN:
            each = spoke_s / (tokens - 1)
            self.token_s += (each - self.token_s) * (0.1 if self.token_s else 1.0)


def fresh_tokens(need: Need, decision: Decision) -> int:
    """Prompt tokens that the chosen upstream is expected to work off for a call."""
    return max(0, need.prompt_tokens - decision.cached_tokens)


def bucket_of(prompt_tokens: int) -> int:
    """Which of the prompt sizes told apart."""
    return bisect_left(BUCKETS, prompt_tokens)


class Row(NamedTuple):
    """One candidate as it was weighed: a line of the explanation."""

    endpoint: Endpoint
    first_token_s: float
    cost_pico: float
    load: float
    meets_slo: bool
    cached_tokens: int


Weighed = tuple[Endpoint, float, float, float, bool, int]
"""A row while it is compared: each call makes one for each candidate, and a plain tuple takes a
tenth of what its type would."""


class Decision(msgspec.Struct, gc=False):
    """What was chosen, and why."""

    endpoint: Endpoint | None
    """None when there is no room anywhere."""
    reason: str
    propensity: float
    """How likely this choice was; below 1 only when it was explored."""
    weighed: Sequence[Weighed]
    filtered: Sequence[tuple[str, str]]
    """Upstreams that cannot take the call now, each with why."""
    cached_tokens: int = 0
    """Of the prompt, expected in the chosen one's cache."""
    left_out: Sequence[tuple[str, str]] = ()
    """Upstreams that may not serve the call at all, each with why: its data may not go there,
    there is no key for it, or its model is not able."""
    obvious: bool = False
    """Whether all candidates could take the call in time, and the policy's first went."""

    @property
    def rows(self) -> list[Row]:
        """The candidates that were compared."""
        return [Row(*weighed) for weighed in self.weighed]


Affinity = Mapping[Endpoint, int]
"""Upstreams that have seen the beginning of a prompt, and how many tokens of it."""
NO_AFFINITY: Affinity = {}


def decide(
    endpoints: Sequence[Endpoint],
    need: Need,
    policy: Policy,
    now: float,
    random: Callable[[], float],
    affinity: Affinity = NO_AFFINITY,
    explore: float = 0.0,
    last: Endpoint | None = None,
    waited_s: float = 0.0,
) -> Decision:
    """Choose where a call goes.

    Args:
        random: uniform in [0, 1).
        affinity: makes those cheaper and faster that have the beginning in their cache.
        explore: share of calls that go to any upstream in time, so that estimates stay fresh.
        last: of the endpoints, the one that was chosen the last time.
        waited_s: as for `weigh`.
    """
    filtered: list[tuple[str, str]] = []
    some, slo_s = endpoints, policy.slo_share * need.slo_s
    if len(endpoints) > MANY:
        some = _drawn(endpoints, random(), last)
        if affinity:
            some += [e for e in affinity if e in endpoints and e not in some]
    weighed, cheapest, all_in_time = weigh(some, need, slo_s, now, affinity, filtered, waited_s)
    if not weighed:
        weighed, cheapest, all_in_time = _weigh_all(
            some, endpoints, need, slo_s, now, affinity, filtered, waited_s
        )
        if not weighed:
            return Decision(None, "no room", 1.0, (), filtered)
    if policy.by_zone:
        weighed = _most_trusted(weighed, filtered)
        cheapest, all_in_time = 0.0, False
    if len(weighed) == 1:
        best = weighed[0]
        return Decision(best[0], "only one", 1.0, weighed, filtered, best[5])
    in_time = weighed if all_in_time else [row for row in weighed if row[4]]
    objective, propensity, obvious = policy.objective, 1.0, False
    reason: str = objective
    if not in_time:
        best, reason = min(weighed, key=_expected_wait), "none meets the SLO"
    elif explore and len(in_time) > 1 and random() < explore:
        best = in_time[int(random() * len(in_time))]
        reason, propensity = "explored", explore / len(in_time)
    else:
        obvious = not filtered and (all_in_time or len(in_time) == len(weighed))
        if objective is _BY_SCORE:
            if not all_in_time:
                cheapest = min(row[2] for row in in_time)
            best = _best_by_score(in_time, policy, need, cheapest, now)
        elif objective is _BY_LATENCY:
            best = min(in_time, key=lambda row: (_expected_wait(row), row[2]))
        else:
            best = min(in_time, key=lambda row: (row[2] * (1 + row[3]), row[1]))
    return Decision(best[0], reason, propensity, weighed, filtered, best[5], (), obvious)


def no_room(endpoints: Sequence[Endpoint]) -> Decision:
    """None of them takes the call now."""
    return Decision(None, "no room", 1.0, (), [(e.name, "busy") for e in endpoints])


def beside_interactive(endpoints: Sequence[Endpoint]) -> list[Endpoint]:
    """Where a bulk call is in nobody's way: it has few places, and is next to no other prompt."""
    return [
        e
        for e in endpoints
        if e.bulk < max(1.0, BULK_SLOTS_SHARE * e.concurrency_limit.calls) and not e.prefill_tokens
    ]


def _weigh_all(
    some: Sequence[Endpoint],
    endpoints: Sequence[Endpoint],
    need: Need,
    slo_s: float,
    now: float,
    affinity: Affinity,
    filtered: list[tuple[str, str]],
    waited_s: float,
) -> tuple[list[Weighed], float, bool]:
    """Look further, where none of those looked at takes the call."""
    found: tuple[list[Weighed], float, bool] = ([], 0.0, False)
    if some is not endpoints:
        filtered.clear()
        found = weigh(endpoints, need, slo_s, now, affinity, filtered, waited_s)
    if not found[0] and need.load_max >= 1 and all(e.alone_s(need) > need.slo_s for e in endpoints):
        # It would be late wherever it goes, were it alone there: no use to keep it waiting.
        filtered.clear()
        found = weigh(endpoints, need, slo_s, now, affinity, filtered, NO_DEADLINE)
    if not found[0] and (least := _least_sick(endpoints, now)):
        found = weigh(least, need, slo_s, now, affinity)
    return found


def _expected_wait(row: Weighed) -> float:
    return row[1] * (1 + row[3])


def _most_trusted(weighed: list[Weighed], filtered: list[tuple[str, str]]) -> list[Weighed]:
    """Those in the zone that is trusted most; the others are noted as filtered."""
    trusted = max(endpoint.zone for endpoint, *_ in weighed)
    filtered += [(e.name, "less trusted zone") for e, *_ in weighed if e.zone < trusted]
    return [row for row in weighed if row[0].zone == trusted]


def _drawn(endpoints: Sequence[Endpoint], random: float, last: Endpoint | None) -> list[Endpoint]:
    """A few of many at equal distances, which is as random as where they begin; each is as
    likely as any other, and no two are the same.

    Args:
        random: uniform in [0, 1).
        last: is one of them.
    """
    count = len(endpoints)
    if last is None:
        place = random * count
        at = int(place)
        step = 1 + int((place - at) * ((count - 1) // (DRAWN_AT_FIRST - 1)))
        return [endpoints[(at + number * step) % count] for number in range(DRAWN_AT_FIRST)]
    # One number for both: which is the one, and how far behind it the other.
    at, behind = divmod(int(random * count * (count - 1)), count - 1)
    one, other = endpoints[at], endpoints[at - 1 - behind]
    if one is last or other is last:
        return [one, other]
    return [last, one, other]


def _least_sick(endpoints: Sequence[Endpoint], now: float) -> Sequence[Endpoint]:
    """Where all are ejected: better a doubtful one than none (Envoy's panic mode)."""
    if not endpoints or any(endpoint.health.allows(now) for endpoint in endpoints):
        return ()
    return (min(endpoints, key=lambda endpoint: endpoint.health.ready_in_s(now)),)


def weigh(
    endpoints: Sequence[Endpoint],
    need: Need,
    slo_s: float,
    now: float,
    affinity: Affinity = NO_AFFINITY,
    filtered: list[tuple[str, str]] | None = None,
    waited_s: float = 0.0,
) -> tuple[list[Weighed], float, bool]:
    """What is expected of upstreams, were the call to go there; with what the cheapest of them
    costs, and whether all are in time. One flat loop takes half of what a method of each would.

    Args:
        slo_s: until when the first token must come.
        filtered: takes those that cannot take the call now, each with why; None: all are weighed.
        waited_s: what of the promised time is over; `NO_DEADLINE`: better late than refused.
    """
    tokens, fresh = need.prompt_tokens, float(need.prompt_tokens)
    output_tokens = float(need.output_tokens)
    at_s, load_max, bucket, cached = need.now_s, need.load_max, need.bucket, 0
    left_s = need.slo_s - waited_s if load_max >= 1 else math.inf
    # Behind with prompts means nothing where there is no other to take them.
    alone = len(endpoints) == 1
    backlog_max_s = math.inf if alone else BACKLOG_SLO_MAX * need.slo_s * load_max**3
    weighed: list[Weighed] = []
    cheapest, all_in_time = math.inf, True
    for endpoint in endpoints:
        # A share of the limit, as comparing a count with a float takes five times as long.
        load = (endpoint.inflight + endpoint.reserved) / endpoint.concurrency_limit.calls
        ahead_s = endpoint._per_token_s * endpoint.prefill_tokens
        if filtered is not None:
            health = endpoint.health
            if (health.is_open or now < health.cooldown_until) and not health.allows(now):
                filtered.append((endpoint.name, health.state(now)))
                continue
            if ahead_s > backlog_max_s:
                filtered.append((endpoint.name, "behind"))
                continue
        in_time = True
        if load >= ROOM_AT_LEAST:
            # No class of calls may fill less than that, so that this is seldom asked.
            if filtered is not None and load >= load_max:
                filtered.append((endpoint.name, "full"))
                continue
            if load >= ROOM_SHARE * endpoint.health.share(now):
                in_time = all_in_time = False
        peak_s, peak_at, fresh_rate, cached_rate, output_rate, until_s = endpoint._sizes[bucket]
        if at_s > until_s:
            _, _, fresh_rate, cached_rate, output_rate, _ = endpoint._priced_anew(need)
        cost = fresh * fresh_rate + output_tokens * output_rate
        if affinity:
            cached = min(affinity.get(endpoint, 0), tokens)
            cost -= cached * (fresh_rate - cached_rate)
        own_s = endpoint._idle_per_token_s * (tokens - cached)
        first_s = endpoint._base_s + ahead_s + own_s
        if first_s > left_s and (ahead_s or own_s > OWN_SHARE * left_s) and filtered is not None:
            filtered.append((endpoint.name, "late"))
            continue
        unseen_s, unseen_at = endpoint._unseen
        if unseen_s > UNSEEN_MIN_S:
            first_s += unseen_s * _exp((unseen_at - now) / UNSEEN_DECAY_S)
        if peak_s > first_s:
            peak_s *= _exp((peak_at - now) / PEAK_DECAY_S)
            first_s = peak_s if peak_s > first_s else first_s
        if first_s > slo_s:
            in_time = all_in_time = False
        cheapest = cost if cost < cheapest else cheapest
        weighed.append((endpoint, first_s, cost, load, in_time, cached))
    return weighed, cheapest, all_in_time


def _best_by_score(
    rows: Sequence[Weighed], policy: Policy, need: Need, cheapest_pico: float, now: float
) -> Weighed:
    """The one with the lowest score, of those in time. Each part of it is absolute, so that a
    candidate that comes or goes does not change the others: time as a share of the SLO, cost over
    the cheapest, the square of the load, and the odds of failure."""
    # No call of `min` in it: each takes as many instructions as thirty steps of this loop.
    reference_pico = cheapest_pico if cheapest_pico > 1.0 else 1.0
    latency, price = policy.latency / need.slo_s, policy.price / reference_pico
    by_load, dear_max = policy.load, SCORE_COST_MAX * reference_pico
    best, least = rows[0], math.inf
    for row in rows:
        endpoint, late, cost, load, _, _ = row
        score = (
            latency * late + price * (cost if cost < dear_max else dear_max) + by_load * load * load
        )
        health = endpoint.health
        if health.missed >= MISSED_MIN:
            score -= policy.availability * math.log(health.success_share(now))
        if score < least:
            best, least = row, score
    return best
