"""Quota: rate limits and budgets, reserved by estimate and settled by what was used.

Rates that this process owns are counted exactly; shared ones and budgets are leased
(`gateway.quota.leases`), so that a call waits only when a lease is used up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType

import msgspec

from tokenschain.core.call import Call
from tokenschain.core.call_record import CallRecord
from tokenschain.core.errors import ApiError
from tokenschain.core.formats.token_estimate import PICTURE_TOKENS
from tokenschain.core.limits import (
    AT_ONCE,
    IDLE_BELOW,
    LEASE_SHARE,
    ONE,
    SPEND,
    TOKENS,
    Amounts,
    AtOnce,
    Budget,
    Counter,
    Counters,
    Facts,
    Pool,
    Rate,
    Window,
    by_tags,
    other_of,
    shown_subject,
    subject_of,
)
from tokenschain.core.log_events import Reporter, silent
from tokenschain.core.ports import Load
from tokenschain.core.pricing.catalog import (
    Price,
    to_yuan,
)
from tokenschain.core.snapshot import Plan, Served, Snapshot
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.quota.estimates import PlanAmounts, PlanPrices
from tokenschain.gateway.quota.leases import Count, Leases
from tokenschain.gateway.quota.rate_headers import KINDS, RateHeaders, RateLines

HELD_CACHE_MAX = 50_000
METERS_MAX = 200_000
"""Counts of values that callers choose by their tags, in all."""
VALUES_MAX = 20_000
"""Of one limit and key; a key that sends more has one count for all of the others."""
LOOKED_AT = 4
"""Counts looked at whenever a new one is made."""
PLANS_MAX = 10_000
"""Plans whose prices are remembered."""
WAITING_MAX = 1_000
"""Calls that wait for room in one rate."""
REACHED_AGAIN_S = 3_600
"""A budget, or a limit of calls at once, is not said to be reached again within."""
SUBJECT_SHOWN_MAX = 100
"""Characters of what a count is of, in the log."""
DRAWS_MAX = 4
"""Exchanges one call waits for."""
OUTPUT_FIRST = 1_024.0
OUTPUT_QUANTILE = 0.95
OUTPUT_STEP = 0.02
"""How fast the 95th percentile of answers' lengths is learned: a share of itself an answer."""
OUTPUTS_MAX = 20_000
"""Tenants' models whose answers' lengths are known; the oldest is forgotten."""
OUTPUT_UP, OUTPUT_DOWN = (1 + OUTPUT_STEP * up for up in (OUTPUT_QUANTILE, OUTPUT_QUANTILE - 1))
_KINDS = {"requests": ONE, "tokens": TOKENS, "spend": SPEND, "concurrent": AT_ONCE}


class _Meter:
    """One count of one limit."""

    __slots__ = (
        "count", "counter", "hard", "kind", "leases", "limit", "line", "lines", "quiet_until",
        "spare", "subject", "waiting",
    )  # fmt: skip

    def __init__(self, limit: Rate | Budget, subject: str, leases: Leases | None) -> None:
        self.kind = _KINDS[limit.measure]
        self.subject = subject
        self.quiet_until = 0.0
        """That it is reached is not said again before."""
        self.leases = leases
        self.limit = limit
        self.hard = True
        self.lines: RateLines | None = None
        """What callers are told of a rate of requests or tokens."""
        self.waiting = 0
        self.line: asyncio.Lock | None = None
        self.spare: Window | AtOnce | None = None
        """Counts by itself while the owner of a shared rate is away."""
        self.count: Count | None = None
        self.counter: Counter
        if leases is not None:
            at_once = self.kind == AT_ONCE
            lapses = isinstance(limit, Rate) and not at_once
            self.count = Count(limit.id, subject, limit.amount, at_once, lapses)
            if isinstance(limit, Rate) and not at_once:
                self.count.drawn = self.spare = Window(limit.amount, limit.window_s)
            self.counter = self.count.pool
            leases.add(self.count)
        elif isinstance(limit, Rate) and self.kind != AT_ONCE:
            self.counter = Window(limit.amount, limit.window_s)
        else:
            self.counter = AtOnce(limit.amount)
        self.renew(limit)

    def renew(self, limit: Rate | Budget) -> None:
        """The limit, which may have another amount than before."""
        self.limit = limit
        self.hard = isinstance(limit, Rate) or limit.hard
        self.counter.amount = limit.amount
        if isinstance(self.counter, Pool):
            self.counter.low = max(0, limit.amount // LEASE_SHARE // 2)
        told = self.kind in KINDS and isinstance(limit, Rate)
        if told and not isinstance(self.counter, AtOnce):
            self.lines = RateLines(self.kind, limit.amount, self.counter)


class _Meters:
    """The counts that the calls of one key for one model fall under, laid out for speed."""

    __slots__ = ("all", "counters", "headers", "pools", "tagged")

    def __init__(self, meters: Sequence[_Meter], tagged: Sequence[Rate | Budget] = ()) -> None:
        self.all = tuple(meters)
        self.tagged = tuple(tagged)
        """Limits whose counts depend on a call's tags as well."""
        self.counters = Counters([(meter.counter, meter.kind) for meter in meters])
        self.pools = tuple(
            (meter, meter.counter) for meter in meters if isinstance(meter.counter, Pool)
        )
        self.headers = RateHeaders([meter.lines for meter in meters if meter.lines is not None])
        """What callers are told."""


class _Reservation(msgspec.Struct, gc=False):
    """What a call holds until it is settled; see `core.call.Reservation`."""

    quota: LimitQuota
    meters: _Meters
    amounts: Amounts
    taken: Counters | None = None
    """Counts that are settled when the call ends."""

    def settle(self, record: CallRecord) -> None:
        """See `core.call.Reservation.settle`."""
        taken, quota = self.taken, self.quota
        if taken is not None:
            self.taken = None
            spend, amounts = record.charge_pico or 0, self.amounts
            if spend and record.charge_currency != "CNY":
                spend = quota.in_yuan(spend, record.charge_currency)
            tokens = record.prompt_tokens + record.completion_tokens
            taken.settle(amounts, tokens, spend, quota.clock())
        if record.completion_tokens and record.outcome == "ok":
            quota.learn((record.tenant, record.model_asked), record.completion_tokens)

    def headers(self) -> bytes:
        """See `core.call.Reservation.headers`."""
        return self.meters.headers.lines(self.quota.clock())


class LimitQuota:
    """Every limit that a call falls under; see `core.ports.Quota`."""

    def __init__(
        self,
        served: Served,
        clock: Callable[[], float],
        unix_time: Callable[[], float],
        load: Load,
        rates: Leases | None,
        budgets: Leases,
        gateways: Callable[[], int],
        uncapped: frozenset[str] = frozenset(),
        report: Reporter = silent,
        picture_tokens: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """
        Args:
            load: how full the upstreams of a plan are, 0 to 1, for rates with `burst_when_idle`.
            rates: the owner of shared rates; None: this process owns them.
            budgets: the owner of budgets.
            gateways: how many processes share the rates, as last known.
            uncapped: providers that have no place for the caller's output limit.
            report: told `limit_reached` of each count, once in a window.
            picture_tokens: by provider, the most that one picture counts.
        """
        self._served = served
        self.clock = clock
        self._unix_time = unix_time
        self._load = load
        self._rates = rates
        self._budgets = budgets
        self._gateways = gateways
        self._uncapped = uncapped
        self._report = report
        self._picture_tokens = picture_tokens
        self._generation = -1
        self._limits: tuple[Rate | Budget, ...] = ()
        self._snapshot: Snapshot | None = None
        self._indexed: dict[tuple[str, str], list[Rate | Budget]] = {}
        self._meters: dict[tuple[str, str], _Meter] = {}
        self._by_tags: dict[tuple[str, str], tuple[str, str]] = {}
        """Of those, which are of values of tags, and of which limit and key."""
        self._values: dict[tuple[str, str], int] = {}
        self._held: dict[tuple[str, str], _Meters] = {}
        self._waiting = 0
        """Calls that wait in any line."""
        self._outputs: dict[tuple[str, str], float] = {}
        self._plan_amounts: dict[int, PlanAmounts] = {}
        self._selling_prices: dict[int, tuple[Price, PlanPrices]] = {}

    # --- reserve ------------------------------------------------------------------------

    def reserve(
        self, call: Call, caller: KeyGrant, plan: Plan
    ) -> Coroutine[None, None, None] | None:
        """See `core.ports.Quota.reserve`."""
        if self._generation != self._served.generation:
            self._renew()
        if not self._limits:
            return None
        model = call.parsed.model
        key = (caller.key_id, model)
        held = self._held.get(key)
        if held is None:
            held = self._find(caller, model)
        if held.tagged:
            held = self._with_tags(held, call, caller)
        if not held.all:
            return None
        amounts, counters = self._amounts(call, caller, plan), held.counters
        # Calls wait in line for one of these: a newcomer must not go before them.
        in_line = self._waiting and any(meter.waiting for meter in held.all)
        # Without an `await` in between: all counts or none, and no other call sees a half.
        if not in_line and counters.take(amounts, self.clock()):
            call.reservation = _Reservation(self, held, amounts, counters)
            if counters.runs_low:
                _draw_soon(held)
            return None
        call.reservation = reservation = _Reservation(self, held, amounts)
        return self._take_slowly(reservation, plan)

    async def _take_slowly(self, reservation: _Reservation, plan: Plan) -> None:
        """Draw leases, burst, count alone or wait in line, where the limits say so.

        Raises:
            ApiError: a limit has no room.
        """
        taken: list[tuple[Counter, int]] = []
        amounts = reservation.amounts
        try:
            await self._draw(reservation)
            for meter in reservation.meters.all:
                counter = await self._take_one(meter, amounts[meter.kind], plan)
                taken.append((counter, meter.kind))
        except BaseException:
            now = self.clock()
            for counter, kind in taken:
                counter.settle(amounts[kind], 0, now)
            raise
        reservation.taken = Counters(taken)

    async def _draw(self, reservation: _Reservation) -> None:
        """One exchange for all leases that are used up.

        And another when newcomers took the lease first and the owner has more: a call that waited
        must not be refused for that.
        """
        for number in range(DRAWS_MAX):
            short: dict[Leases, tuple[list[Count], list[int]]] = {}
            for meter in reservation.meters.all:
                count, owner = meter.count, meter.leases
                if count is None or owner is None:
                    continue
                amount = reservation.amounts[meter.kind]
                pool = count.pool
                if pool.left < amount and (number == 0 or pool.known_left > 0):
                    counts, amounts = short.setdefault(owner, ([], []))
                    counts.append(count)
                    amounts.append(amount)
            if not short:
                return
            for owner, (counts, amounts) in short.items():
                await owner.draw(counts, amounts)

    async def _take_one(self, meter: _Meter, amount: int, plan: Plan) -> Counter:
        now = self.clock()
        counter = meter.counter
        if not meter.waiting and counter.take(amount, now):
            return counter
        limit = meter.limit
        if not meter.hard:
            return _overdraw(counter, amount, now)
        owner = meter.leases
        if owner is not None and owner.is_away:
            return self._take_alone(meter, amount, now)
        if isinstance(limit, Rate):
            if limit.burst_when_idle and self._load(plan) < IDLE_BELOW:
                return _overdraw(counter, amount, now)
            if limit.wait_s > 0 and meter.waiting < WAITING_MAX and amount <= limit.amount:
                return await self._wait_in_line(meter, amount, limit.wait_s)
        raise self._refusal(meter, amount, now)

    def _take_alone(self, meter: _Meter, amount: int, now: float) -> Counter:
        """The owner of the count is away: an equal share of it, or nothing."""
        limit = meter.limit
        if limit.on_unavailable == "deny":
            raise ApiError(
                "quota_unknown",
                f"What is left of limit `{limit.id}` cannot be known at the moment.",
                retry_after_s=1.0,
            )
        if isinstance(limit, Budget):
            return _overdraw(meter.counter, amount, now)
        spare = meter.spare
        share = max(1, limit.amount // max(1, self._gateways()))
        if spare is None:
            at_once = meter.kind == AT_ONCE
            spare = meter.spare = AtOnce(share) if at_once else Window(share, limit.window_s)
        spare.amount = share
        if not spare.take(amount, now):
            raise self._refusal(meter, amount, now)
        return spare

    async def _wait_in_line(self, meter: _Meter, amount: int, wait_s: float) -> Counter:
        """Wait until there is room, first come first served."""
        if meter.line is None:
            meter.line = asyncio.Lock()
        meter.waiting += 1
        self._waiting += 1
        try:
            async with asyncio.timeout(wait_s), meter.line:
                while not meter.counter.take(amount, self.clock()):
                    await self._wait_for_room(meter, amount)
        except TimeoutError:
            raise self._refusal(meter, amount, self.clock()) from None
        finally:
            meter.waiting -= 1
            self._waiting -= 1
        return meter.counter

    async def _wait_for_room(self, meter: _Meter, amount: int) -> None:
        counter = meter.counter
        if isinstance(counter, Pool) and meter.leases is not None and meter.count is not None:
            now = self.clock()
            await asyncio.sleep(min(max(counter.reset_s(now), 0.01), 0.25))
            await meter.leases.draw([meter.count], [amount])
        elif isinstance(counter, Window):
            await asyncio.sleep(min(max(counter.wait_s(amount, self.clock()), 0.001), 0.25))
        else:
            await asyncio.sleep(0.02)  # the end of a call cannot be foretold

    def _refusal(self, meter: _Meter, amount: int, now: float) -> ApiError:
        limit = meter.limit
        if now >= meter.quiet_until:
            self._say_reached(meter, now)
        if isinstance(limit, Budget):
            if limit.wallet:
                return ApiError(
                    "insufficient_balance",
                    "The wallet does not cover this call; deposit, or ask for fewer tokens.",
                )
            return ApiError(
                "budget_exceeded",
                f"The {limit.period} budget `{limit.id}` leaves no room for this call.",
            )
        what = limit.measure if meter.kind != AT_ONCE else "calls at once"
        window = "" if meter.kind == AT_ONCE else f" per {_PERIODS[limit.window_s]}"
        counter = meter.counter
        if amount > limit.amount:
            return ApiError(
                "rate_limit_exceeded",
                f"This call alone needs {amount} {what}; limit `{limit.id}` is "
                f"{limit.amount}{window}.",
            )
        wait_s = counter.reset_s(now) if isinstance(counter, Pool) else counter.wait_s(amount, now)
        return ApiError(
            "rate_limit_exceeded",
            f"Limit `{limit.id}` is {limit.amount} {what}{window}; try again in "
            f"{max(wait_s, 0.1):.1f} s.",
            retry_after_s=max(wait_s, 0.1),
        )

    def _say_reached(self, meter: _Meter, now: float) -> None:
        """Once in the window of a rate, and once in an hour of a budget or of calls at once."""
        limit = meter.limit
        window_s, per = REACHED_AGAIN_S, "at once"
        if isinstance(limit, Budget):
            per = "wallet" if limit.wallet else str(limit.period)
        elif meter.kind != AT_ONCE:
            window_s, per = limit.window_s, _PERIODS[limit.window_s]
        meter.quiet_until = now + window_s
        subject = " ".join(shown_subject(meter.subject))[:SUBJECT_SHOWN_MAX]
        self._report(
            "limit_reached", limit=limit.id, subject=subject, measure=limit.measure,
            amount=limit.amount, per=per,
        )  # fmt: skip

    # --- estimates ----------------------------------------------------------------------

    def _amounts(self, call: Call, caller: KeyGrant, plan: Plan) -> Amounts:
        """Requests, tokens, pico-yuan and calls at once that a call may use at the most: each
        choice of each prompt is a request, and all of them run at once.

        Where the caller set no cap, what nearly all answers stay below stands for one. Where an
        upstream has no place for the caller's cap, its model's own counts.
        """
        parsed, snapshot = call.parsed, self._snapshot
        assert snapshot is not None
        known = self._plan_amounts.get(id(plan.candidates))
        if known is None or known.candidates is not plan.candidates or plan.others:
            known = self._amounts_of(plan)
        prompt, output, flat = parsed.prompt_tokens_estimate, parsed.output_tokens_max, known.flat
        # A call of texts has one prompt.
        if flat and output and parsed.choices == 1 and parsed.all_text and not snapshot.sell:
            return 1, prompt + output, prompt * flat[0] + output * flat[1], 1
        requests = parsed.requests
        # Where an upstream gives one choice at a time, each is asked for with the whole prompt.
        if parsed.pictures:
            # The estimate counts them for what they come to on average.
            prompt += parsed.pictures * max(0, known.picture_tokens - PICTURE_TOKENS)
        prompt *= parsed.choices
        output = output or 0
        if plan.route.kind != "chat":
            output = 0
        else:
            if not output:
                output = self._usual_output(caller, plan.route.name)
                if known.output_max is not None:
                    output = min(output, known.output_max)
            else:
                for own in known.uncapped:
                    output = max(output, own or self._usual_output(caller, plan.route.name))
            output *= requests
        prices = known.prices
        if snapshot.sell and known.on_platform:
            prices = self._sold_by(caller, parsed.model) or prices
        writes = prices.writes_matter and b'"cache_control"' in call.request.body
        spend = prices.most(prompt, output, snapshot.usd_cny_micro, writes_cache=writes)
        spend = max(spend, known.fee_pico)
        return requests, prompt + output, spend, requests

    def _usual_output(self, caller: KeyGrant, model: str) -> int:
        """Tokens that nearly all of a tenant's answers stay below."""
        return int(self._outputs.get((caller.tenant, model), OUTPUT_FIRST))

    def _amounts_of(self, plan: Plan) -> PlanAmounts:
        found = PlanAmounts(plan, self._uncapped, self._picture_tokens)
        if not plan.others:  # a virtual model's plan is made for one call
            if len(self._plan_amounts) >= PLANS_MAX:
                self._plan_amounts.clear()
            self._plan_amounts[id(plan.candidates)] = found
        return found

    def _sold_by(self, caller: KeyGrant, model: str) -> PlanPrices | None:
        """The selling price that holds, if there is one."""
        directory = self._served.directory(caller.tenant)
        price = directory.selling_price(model, None, self._unix_time())
        if price is None:
            return None
        known = self._selling_prices.get(id(price))
        if known is None or known[0] is not price:
            if len(self._selling_prices) >= PLANS_MAX:
                self._selling_prices.clear()
            known = self._selling_prices[id(price)] = price, PlanPrices((price,))
        return known[1]

    # --- settle -------------------------------------------------------------------------

    def in_yuan(self, pico: int, currency: str) -> int:
        """An amount in pico-yuan, by the exchange rate in force."""
        assert self._snapshot is not None
        return to_yuan(pico, currency, self._snapshot.usd_cny_micro)

    def learn(self, of: tuple[str, str], tokens: int) -> None:
        """The 95th percentile of answers' lengths, by small steps up or down.

        Args:
            of: tenant and model; what one tenant's upstreams answer, or say that they did, is no
                word on what another one's calls may need.
        """
        before = self._outputs.get(of, 0.0)
        if not before:
            before = OUTPUT_FIRST
            if len(self._outputs) >= OUTPUTS_MAX:
                self._outputs.pop(next(iter(self._outputs)))
        after = before * (OUTPUT_UP if tokens > before else OUTPUT_DOWN)
        self._outputs[of] = after if after > 1.0 else 1.0

    # --- what limits there are ------------------------------------------------------------

    def _renew(self) -> None:
        """Serve by a new snapshot; counts of limits that are still there go on."""
        self._generation = self._served.generation
        snapshot = self._served.get()
        self._held.clear()
        self._plan_amounts.clear()
        self._selling_prices.clear()
        if snapshot is self._snapshot:
            return
        self._snapshot = snapshot
        self._limits = (*snapshot.rates, *snapshot.budgets)
        self._indexed = {}
        for limit in self._limits:
            match = limit.match
            for name in ("key_id", "project", "tenant", "model"):
                value = getattr(match, name)
                if value:
                    self._indexed.setdefault((name, value), []).append(limit)
                    break
            else:
                self._indexed.setdefault(("", ""), []).append(limit)
        known = {limit.id: limit for limit in self._limits}
        gone = []
        for key, meter in self._meters.items():
            now_set = known.get(key[0])
            if now_set is None or _shape(now_set) != _shape(meter.limit):
                gone.append(key)
                continue
            meter.renew(now_set)
            if isinstance(meter.counter, Pool):
                meter.counter.known_left = max(1, meter.counter.known_left)
        for key in gone:
            self._forget(key)

    def _find(self, caller: KeyGrant, model: str) -> _Meters:
        facts = _facts(caller, model)
        meters, tagged = [], []
        places = (
            ("key_id", caller.key_id), ("project", caller.project), ("tenant", caller.tenant),
            ("model", model), ("", ""),
        )  # fmt: skip
        for place in places:
            for limit in self._indexed.get(place, ()):
                if by_tags(limit):
                    tagged.append(limit)
                elif (subject := subject_of(limit, facts)) is not None:
                    meters.append(self._meter(limit, subject))
        if len(self._held) >= HELD_CACHE_MAX:
            self._held.clear()
        found = self._held[caller.key_id, model] = _Meters(meters, tagged)
        return found

    def _with_tags(self, held: _Meters, call: Call, caller: KeyGrant) -> _Meters:
        facts = _facts(caller, call.parsed.model)._replace(tags=call.tags.values)
        more = [
            self._tagged_meter(limit, subject, caller.key_id)
            for limit in held.tagged
            if (subject := subject_of(limit, facts)) is not None
        ]
        return _Meters((*held.all, *more))

    def _meter(self, limit: Rate | Budget, subject: str) -> _Meter:
        key = (limit.id, subject)
        meter = self._meters.get(key)
        if meter is None:
            leases = self._rates if isinstance(limit, Rate) else self._budgets
            meter = self._meters[key] = _Meter(limit, subject, leases)
        return meter

    def _tagged_meter(self, limit: Rate | Budget, subject: str, key_id: str) -> _Meter:
        """The count of values that callers choose: bounded for each limit and key."""
        key = (limit.id, subject)
        if key not in self._meters:
            self._turn_hand()
            place = (limit.id, key_id)
            if self._values.get(place, 0) >= VALUES_MAX or len(self._by_tags) >= METERS_MAX:
                return self._meter(limit, other_of(limit, subject))
            self._values[place] = self._values.get(place, 0) + 1
            self._by_tags[key] = place
        return self._meter(limit, subject)

    def _turn_hand(self) -> None:
        """Look at the counts that were not for the longest time; forget those that hold
        nothing. More go than come, and none waits for a sweep."""
        now = self.clock()
        for _ in range(min(LOOKED_AT, len(self._by_tags))):
            key = next(iter(self._by_tags))
            meter = self._meters[key]
            counter = meter.counter
            if isinstance(counter, Pool):
                idle = not counter.in_use and not counter.left
            else:
                idle = counter.left(now) >= counter.amount
            if idle and not meter.waiting:
                self._forget(key)
            else:
                self._by_tags[key] = self._by_tags.pop(key)

    def _forget(self, key: tuple[str, str]) -> None:
        meter = self._meters.pop(key)
        place = self._by_tags.pop(key, None)
        if place is not None:
            left = self._values[place] = self._values[place] - 1
            if not left:
                del self._values[place]
        if meter.leases is not None and meter.count is not None:
            meter.leases.forget([meter.count])


_PERIODS = {1: "second", 60: "minute", 3_600: "hour"}


def _draw_soon(held: _Meters) -> None:
    """Ask for another lease of those that run low."""
    held.counters.runs_low = False
    for meter, pool in held.pools:
        if pool.left <= pool.low and pool.known_left > 0:
            assert meter.leases is not None and meter.count is not None, "it has a pool"
            meter.leases.request(meter.count)


def _overdraw(counter: Counter, amount: int, now: float) -> Counter:
    """Count a use that nothing covers; it is settled as any other."""
    if isinstance(counter, Pool):
        counter.taken += amount
    elif isinstance(counter, AtOnce):
        counter.used += amount
    else:
        counter.settle(0, amount, now)
    return counter


def _shape(limit: Rate | Budget) -> tuple[object, ...]:
    """What must not change for a count to go on under a new snapshot."""
    how = limit.window_s if isinstance(limit, Rate) else limit.period
    return type(limit), limit.measure, how, limit.match, limit.per


def _facts(caller: KeyGrant, model: str) -> Facts:
    return Facts(
        caller.tenant, caller.account, caller.project, caller.environment, caller.key_id, model
    )
