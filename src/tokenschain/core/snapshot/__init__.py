"""Snapshot: the immutable, versioned configuration that control publishes to gateways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tokenschain.core.errors import ApiError
from tokenschain.core.limits import Budget, Rate
from tokenschain.core.pricing.catalog import DatedPrice, Price, PriceTier, price_at
from tokenschain.core.snapshot.cache_rules import CacheRules
from tokenschain.core.snapshot.freeze import Freeze
from tokenschain.core.snapshot.kept_content import KeptContent
from tokenschain.core.snapshot.label_rules import LabelRule
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy
from tokenschain.core.snapshot.receipt_rules import Send, are_sent
from tokenschain.core.snapshot.routing_policy import Policy, RuleScope
from tokenschain.core.snapshot.shards import NO_SHARD, SHARDS, Shard, decode_grant, decode_shard
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry
from tokenschain.core.snapshot.zones import ResidencyScope, Sovereignty, Zone
from tokenschain.core.steering import SteeringParameter
from tokenschain.core.tenancy import KeyGrant

TOKEN_PROVIDERS = ("baidu-qianfan", "volcengine-ark")
"""Providers with a service that trades credentials for tokens (`auth: token`)."""
CALL_FEE_MAX_MICRO_CNY = 1_000_000_000
UPSTREAM_ID_CHARACTERS_MAX = 64
"""As many as a call's record has room for."""
WAIT_MAX_S = 604_800
"""Of limits that are seconds: a week, longer than any answer."""
COUNT_MAX = 1_000_000
"""Of limits that count connections, calls or shares."""


# What a configuration has by the ten thousand is no matter of the garbage collector (`gc=False`):
# nothing in it leads back to itself, and looking through it would take tens of milliseconds.


class UpstreamLimits(msgspec.Struct, frozen=True, gc=False):
    """How long and how much one upstream may take; seconds and counts."""

    connect_max_s: Annotated[
        float,
        Meta(gt=0, le=WAIT_MAX_S, description="Seconds until a connection must stand, with TLS."),
    ] = 5.0
    first_byte_max_s: Annotated[
        float,
        Meta(
            gt=0,
            le=WAIT_MAX_S,
            description="Seconds until the first byte of an answer; a whole generation when the "
            "call is not streamed.",
        ),
    ] = 300.0
    idle_max_s: Annotated[float, Meta(
        gt=0, le=WAIT_MAX_S, description="Longest pause between two events of a stream, in seconds;"
        " comments do not count as events.",
    )] = 120.0  # fmt: skip
    total_max_s: Annotated[
        float, Meta(gt=0, le=WAIT_MAX_S, description="Longest answer, in seconds.")
    ] = 1_800.0
    connections_max: Annotated[
        int,
        Meta(gt=0, le=COUNT_MAX, description="Most connections at once, for each gateway worker."),
    ] = 1_000
    queue_wait_max_s: Annotated[
        float,
        Meta(gt=0, le=WAIT_MAX_S, description="Longest wait for a free connection, in seconds."),
    ] = 5.0


class Upstream(msgspec.Struct, frozen=True, gc=False):
    """One endpoint that answers calls."""

    id: Annotated[
        str,
        Meta(
            pattern=r"^([\w.@-]{1,62}/)?[a-z0-9][a-z0-9._-]{0,62}\Z",
            max_length=UPSTREAM_ID_CHARACTERS_MAX,
            description="Name of the upstream, unique: lower case letters, digits, `.`, `_` or "
            "`-`. A tenant's own is published as `TENANT/NAME`, 64 characters at most.",
        ),
    ]
    provider: Annotated[
        str, Meta(description="A provider of the catalog (`tokenschain model list`), or `custom`.")
    ] = "custom"
    base_url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://[^/\s]+(/\S*)?)?\Z",
            description="Address up to and including the version, as `https://host/v1`; the "
            "catalog's by default.",
        ),
    ] = ""
    credentials: tuple[str, ...] = ()
    """Where the gateway finds its keys: `env:NAME`, `file:PATH` or `sealed:NAME`; never a key."""
    limits: UpstreamLimits = UpstreamLimits()
    auth: Annotated[
        Literal["", "jwt", "sdk-hmac-sha256", "sdk-hmac-sm3", "token"],
        Meta(
            description="Another way to prove who asks than the vendor's plain key: `jwt` (Zhipu; "
            "credential `id.secret`), `sdk-hmac-sha256` or `sdk-hmac-sm3` (Huawei; `id:secret`), "
            "`token` (Baidu and Volcano; `id:secret`, traded for short-lived tokens)."
        ),
    ] = ""
    token_url: Annotated[
        Annotated[str, Meta(pattern=r"^https?://")] | None,
        Meta(
            description="Address of the vendor's token service for `auth: token`, where it is not "
            "the public one."
        ),
    ] = None
    region: Annotated[
        str,
        Meta(
            description="Where it is, as `cn-beijing`; the nearer upstream is preferred until "
            "times are measured."
        ),
    ] = ""
    zone: Annotated[
        Literal[Zone, ""],
        Meta(
            description="Where data goes there: outside the country, in it, in it and certified "
            "for MLPS 2.0 level 3, a government cloud, or your own machines; by the provider if "
            "unset. Where neither says it, no call under a residency rule goes there."
        ),
    ] = ""
    stream_whole: Annotated[
        bool,
        Meta(
            description="Whether a stream is asked for even where the caller wants a whole "
            "answer, so that a silent upstream is noticed within seconds; costs some CPU for each "
            "token."
        ),
    ] = False
    concurrency_max: Annotated[
        int,
        Meta(
            gt=0,
            le=COUNT_MAX,
            description="Most calls at once, for each gateway worker; the limit that is learned "
            "stays below.",
        ),
    ] = 1_000
    media_urls: Annotated[
        Literal["", "inline", "pass"],
        Meta(
            description="What becomes of URLs of media in messages: images are fetched here, from "
            "public addresses only, and sent as data, other media by URL are refused (`inline`), "
            "or all are passed on for the upstream to fetch (`pass`), but for those that lead to "
            "no public address, which only an upstream of zone `own` gets. By default inlined for "
            "engines of your own (vLLM, SGLang, MindIE, Xinference, Ollama, zone `own`) and for "
            "`custom` providers."
        ),
    ] = ""
    allowed_parameters: Annotated[
        tuple[SteeringParameter, ...],
        Meta(
            description="Parameters of callers that are passed on though they may choose another "
            "model, provider or price there: `models` or `provider` of OpenRouter, `service_tier`. "
            "Left out by default, as the upstream did not offer them."
        ),
    ] = ()
    probe_path: Annotated[
        str,
        Meta(
            pattern=r"^(/[!-~]*)?\Z",
            max_length=200,
            description="Path of a health check that is asked with GET, without a key, while no "
            "call goes there or its breaker is open: `/health` of vLLM, SGLang, TEI, llama.cpp. A "
            "200 brings its next trial forward; anything else counts as a failure. Off by "
            "default: for a cloud, the next call is the probe.",
        ),
    ] = ""
    tenant: Annotated[
        str,
        Meta(
            description="The tenant whose own upstream it is (bring your own key): it serves that "
            "tenant's calls only, and the tenant pays the vendor itself. Empty: the platform's."
        ),
    ] = ""
    call_fee_micro_cny: Annotated[
        int,
        Meta(
            ge=0,
            le=CALL_FEE_MAX_MICRO_CNY,
            description="What a tenant is charged for a call that any upstream of its own "
            "answered, in millionths of a yuan: the highest of its upstreams, where "
            "`routing.own_upstream_fees_micro_cny` does not name the tenant. The platform sets it.",
        ),
    ] = 0
    drain: Annotated[
        bool,
        Meta(description="Whether it gets no new calls; those that run are finished, streams too."),
    ] = False


def own_id(tenant: str, name: str) -> str:
    """The id that an upstream is published under."""
    return f"{tenant}/{name}" if tenant else name


OWN_UPSTREAM_PRICE = Price("CNY", (PriceTier(0, 0, 0),), "own-upstream/1")
"""What a call at a tenant's own upstream costs the platform. Its version on a record says that
the tenant paid the vendor itself."""


class Offer(msgspec.Struct, frozen=True, gc=False):
    """One model as one upstream sells it."""

    upstream: str
    model: str
    """The model's name at the upstream."""
    price: Price | None = None
    output_tokens_max: int | None = None
    context_window: int | None = None
    abilities: tuple[str, ...] | None = None
    """None when they are not known: then nothing is ruled out."""


PayerScope = Annotated[str, Meta(pattern=r"^(\*|tenant/.+)\Z")]
"""Who pays by a rule: everybody, or one tenant."""
OwnUpstreams = Literal["first", "only", "also"]
"""When a tenant's own upstreams are asked: before the platform's, instead of them, or among them
as the policy orders."""


class Routing(msgspec.Struct, frozen=True):
    """How calls find their upstream; see `core.routing`."""

    policy: Annotated[
        str,
        Meta(
            description="`performance-first`, `cost-first`, `balanced`, `compliance-first`, or one "
            "of `custom_policies`."
        ),
    ] = "balanced"
    custom_policies: Annotated[
        dict[str, Policy], Meta(description="Policies of your own by name; see below.")
    ] = {}
    policy_overrides: Annotated[
        dict[RuleScope, str],
        Meta(
            description="Policies by `tenant/NAME`, `project/NAME`, `model/NAME`, or one tenant's "
            "`tenant/NAME/project/NAME` and `tenant/NAME/model/NAME`; a model's beats a project's, "
            "that a tenant's."
        ),
    ] = {}
    first_token_slo_s: Annotated[
        float,
        Meta(
            gt=0,
            le=WAIT_MAX_S,
            description="The time to the first token that is promised, in seconds.",
        ),
    ] = 2.0
    explore: Annotated[
        float,
        Meta(
            ge=0,
            le=0.2,
            description="Share of calls that try any upstream that meets the SLO, so that "
            "estimates stay fresh.",
        ),
    ] = 0.01
    hedge: Annotated[
        bool,
        Meta(
            description="Whether a second upstream is asked when an interactive call waits a fifth "
            "longer than expected: at most 2 % of calls, which are then paid twice."
        ),
    ] = False
    usd_cny: Annotated[
        float,
        Meta(
            gt=0, le=1_000, description="Yuan for a dollar, to compare prices; never for billing."
        ),
    ] = 7.0
    region: Annotated[str, Meta(description="Where the gateway is, as `cn-shanghai`.")] = ""
    models: Annotated[
        dict[str, tuple[VirtualModelEntry, ...]],
        Meta(description="Virtual models by name, each a list of entries; see below."),
    ] = {}
    own_upstreams: Annotated[
        dict[str, OwnUpstreams],
        Meta(
            description="By tenant, when its own upstreams are asked: `first`, before the "
            "platform's, which is where nothing is said; `only`, instead of them; `also`, among "
            "them, as the policy orders."
        ),
    ] = {}
    own_upstream_fees_micro_cny: Annotated[
        dict[PayerScope, Annotated[int, Meta(ge=0, le=CALL_FEE_MAX_MICRO_CNY)]],
        Meta(
            description="What a tenant is charged for a call that an upstream of its own answered, "
            "in millionths of a yuan, by `tenant/NAME`, or `*` for all others, whose upstreams "
            "have no `call_fee_micro_cny` either. Nothing is charged where there is no rule."
        ),
    ] = {}
    residency: Annotated[
        dict[ResidencyScope, tuple[Zone, ...]],
        Meta(
            description="Zones that data may go to, by `*`, `tenant/NAME`, `project/NAME`, "
            "`model/NAME`, one tenant's `tenant/NAME/project/NAME` and `tenant/NAME/model/NAME`, "
            "and `class/NAME` for keys of that data class, whoever holds them. A zone must be in "
            "every rule that applies. Nothing is sent elsewhere, whatever fails."
        ),
    ] = {}
    sovereignty: Annotated[
        dict[ResidencyScope, Sovereignty],
        Meta(
            description="Sovereignty modes by the same scopes: `domestic-only`, `zone:NAME`, "
            "`air-gapped` or `none`. They are published as `residency`, the strictest of all."
        ),
    ] = {}


class ModelRoute(msgspec.Struct, frozen=True, gc=False):
    """A name callers use and the offers behind it, in order of preference."""

    name: str
    kind: str
    """`chat` (serves chat and completions) or `embedding`."""
    offers: tuple[Offer, ...]
    owned_by: str = ""
    created_s: int = 0


class Alias(msgspec.Struct, frozen=True, gc=False):
    """Another name of a model; see `core.pricing.catalog.ModelAlias`."""

    model: str
    """The name that is served."""
    thinking: bool | None = None
    """Whether the old name stood for thinking; the call's own word goes before it."""


class TenantConfiguration(msgspec.Struct, frozen=True):
    """What one tenant has of its own, and nobody else sees; in it, its names go first."""

    models: dict[str, ModelRoute] = {}
    """What its own upstreams serve, by the names its callers use."""
    virtual_models: dict[str, tuple[VirtualModelEntry, ...]] = {}


class Snapshot(msgspec.Struct, frozen=True):
    """Everything the data plane needs to decide, but for the keys: those come in shards, so
    that a change of one is not a change of all."""

    version: str
    upstreams: dict[str, Upstream]
    models: dict[str, ModelRoute]
    routing: Routing = Routing()
    rates: tuple[Rate, ...] = ()
    budgets: tuple[Budget, ...] = ()
    sell: dict[str, tuple[DatedPrice, ...]] = {}
    """What customers pay, by `model` or `tenant/model`, the latest first; a model that is not
    in it is sold at cost."""
    usd_cny_micro: int = 7_000_000
    """Yuan for a million dollars' millionths: the rate of the day."""
    cache: CacheRules = CacheRules()
    aliases: dict[str, Alias] = {}
    """Other names of `models`, none of them a model's or a virtual model's own."""
    tenants: dict[str, TenantConfiguration] = {}
    """Of those tenants that have anything of their own."""
    credentials: dict[str, bytes] = {}
    """Secrets that upstreams name as `stored:TENANT/NAME`, by that, sealed for gateways."""
    moderation: dict[str, ModerationPolicy] = {}
    """By name; a tenant's own as `TENANT/NAME`."""
    freezes: tuple[Freeze, ...] = ()
    suspended: dict[str, dict[str, int]] = {}
    """By tenant: end users, as keyed hashes, that are not served, and until when; Unix time."""
    filings: dict[str, str] = {}
    """By model, the filing or registration number in force; see `core.snapshot.filings`."""
    labels: dict[str, LabelRule] = {}
    """By scope; none where nothing is labelled: see `label_rules.rule_for`."""
    contents: dict[str, KeptContent] = {}
    """What is kept of what calls say, by `TENANT/PROJECT`; see `kept_content.kept_of`."""
    receipts: dict[str, Send] = {}
    """By scope; none where nobody gets any unasked: see `receipt_rules.are_sent`."""


class Candidate(msgspec.Struct, frozen=True):
    """One upstream that could answer this call."""

    upstream: Upstream
    offer: Offer


class Plan(msgspec.Struct, frozen=True):
    """What may serve a model's calls."""

    route: ModelRoute
    candidates: tuple[Candidate, ...]
    others: tuple[Plan, ...] = ()
    """What is asked in turn when none of the candidates can serve."""

    @property
    def size(self) -> int:
        """How many candidates there are in all."""
        return len(self.candidates) + sum(len(plan.candidates) for plan in self.others)


_GRANTS_MAX = 50_000


class ModelDirectory:
    """The model names of one tenant, its own before the platform's, and what may serve each.

    Tenants that have nothing of their own, and no price, share the platform's. Plans are made when
    they are asked for first, so that a configuration with many names is in force at once.
    """

    __slots__ = ("_mine", "_own", "_plans", "_snapshot", "_tenant")

    def __init__(self, snapshot: Snapshot, tenant: str = "") -> None:
        self._snapshot = snapshot
        self._tenant = tenant
        self._mine = snapshot.tenants.get(tenant)
        self._own = snapshot.routing.own_upstreams.get(tenant, "first")
        self._plans: dict[str, Plan] = {}

    def names(self) -> list[tuple[str, ModelRoute | None]]:
        """Every name that can be called, with its route; None for a virtual model's."""
        found: dict[str, ModelRoute | None] = {}
        shared, mine = self._snapshot, self._mine
        if mine is None or self._own != "only":
            found |= shared.models
        if mine is not None:
            found |= mine.models
        for name, entries in shared.routing.models.items():
            if name not in found and (mine is None or any(e.model in found for e in entries)):
                found[name] = None
        if mine is not None:
            found |= dict.fromkeys(mine.virtual_models)
        return list(found.items())

    def alias(self, name: str) -> Alias | None:
        """What a name stands for that is no model's own."""
        alias = self._snapshot.aliases.get(name)
        return None if alias is None or self.is_own(name) else alias

    def aliases(self) -> dict[str, Alias]:
        """Those names."""
        return {name: a for name, a in self._snapshot.aliases.items() if not self.is_own(name)}

    def named(self, model: str) -> str:
        """The name that a model is served by, for one of its aliases; else as it was."""
        alias = self.alias(model)
        return model if alias is None else alias.model

    def is_own(self, name: str) -> bool:
        """Whether it is a name that the tenant gave."""
        mine = self._mine
        return mine is not None and (name in mine.virtual_models or name in mine.models)

    def virtual_model(self, name: str) -> tuple[VirtualModelEntry, ...] | None:
        """The entries of a virtual model; None where the name is a model's, or none at all."""
        mine = self._mine
        if mine is not None:
            own = mine.virtual_models.get(name)
            if own is not None or name in mine.models:
                return own
        return self._snapshot.routing.models.get(name)

    def known(self, model: str, kind: str) -> Plan | None:
        """What may serve a model of a kind, when it is served at all."""
        plan = self.plan_of(model)
        return plan if plan is not None and plan.route.kind == kind else None

    def plan(self, model: str, kind: str) -> Plan:
        """Choose what may serve a call.

        Raises:
            ApiError: `model_not_found`, `invalid_value` when the model is of another kind,
                `no_upstream` when nothing is behind it.
        """
        plan = self.plan_of(model)
        if plan is None:
            raise ApiError(
                "model_not_found",
                f"The model `{model[:200]}` does not exist. GET /v1/models lists what there is.",
                param="model",
            )
        if plan.route.kind != kind:
            raise ApiError(
                "invalid_value",
                f"The model `{model}` is for {plan.route.kind}, this endpoint for {kind}.",
                param="model",
            )
        if not plan.candidates:
            raise ApiError(
                "no_upstream", f"No upstream that takes calls serves `{model}`.", param="model"
            )
        return plan

    def plan_of(self, model: str) -> Plan | None:
        """What may serve a model, in the order the snapshot lists; None where there is none."""
        plan = self._plans.get(model)
        if plan is None:
            plan = self._make(model)
            if plan is not None:
                self._plans[model] = plan
        return plan

    def _make(self, model: str) -> Plan | None:
        shared, mine = self._snapshot.models.get(model), self._mine
        own = None if mine is None else mine.models.get(model)
        if mine is not None and self._own == "only":
            shared = None
        if own is not None and shared is not None and own.kind != shared.kind:
            shared = None  # its own name, whatever others call by it
        if own is None or mine is None:
            return None if shared is None else Plan(shared, self._candidates(shared, ""))
        # Queues, retries and what is learned go by the route's name: they are not the platform's.
        route = msgspec.structs.replace(own, name=own_id(self._tenant, model))
        candidates = self._candidates(own, self._tenant)
        if shared is None:
            return Plan(route, candidates)
        others = self._candidates(shared, "")
        if self._own == "also":
            return Plan(route, (*candidates, *others))
        if not candidates:
            return Plan(shared, others)
        return Plan(route, candidates, (Plan(shared, others),) if others else ())

    def _candidates(self, route: ModelRoute, tenant: str) -> tuple[Candidate, ...]:
        """Those of a tenant's own upstreams, or of the platform's, that take new calls."""
        found = []
        for offer in route.offers:
            upstream = self._snapshot.upstreams.get(offer.upstream)
            if upstream is None or upstream.tenant != tenant or upstream.drain:
                continue
            priced = msgspec.structs.replace(offer, price=OWN_UPSTREAM_PRICE) if tenant else offer
            found.append(Candidate(upstream, priced))
        return tuple(found)

    def selling_price(self, model: str, offer: Offer | None, at_s: float) -> Price | None:
        """What the tenant pays for a model at a time: by a price of its own, else by that for all.

        A virtual model that the tenant made itself is sold as the model behind it that answered:
        a name chosen by who pays sets no price.

        Args:
            offer: what answered; None where that is not known yet.
        """
        sell, mine = self._snapshot.sell, self._mine
        entries = None if mine is None else mine.virtual_models.get(model)
        dated: Sequence[DatedPrice] | None = None
        if entries is None or not self._is_shared(model):
            dated = sell.get(f"{self._tenant}/{model}")
        if not dated:
            if entries is not None:
                model = self._model_behind(entries, offer)
                dated = sell.get(f"{self._tenant}/{model}")
            dated = dated or sell.get(model)
        return price_at(dated, at_s) if dated else None

    def _is_shared(self, name: str) -> bool:
        """Whether the platform has a model of this name, whose price is not meant for another."""
        shared = self._snapshot
        return name in shared.models or name in shared.aliases or name in shared.routing.models

    def _model_behind(self, entries: Sequence[VirtualModelEntry], offer: Offer | None) -> str:
        for entry in entries:
            route = self._snapshot.models.get(entry.model)
            if offer is None or (
                route is not None
                and any(
                    each.upstream == offer.upstream and each.model == offer.model
                    for each in route.offers
                )
            ):
                return entry.model
        return ""


class Served:
    """The configuration in force: the one cell the data plane reads and its feed replaces."""

    __slots__ = (
        "_directories", "_grants", "_shards", "_shared", "_snapshot", "generation", "moderates",
        "sells", "version",
    )  # fmt: skip

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self._snapshot: Snapshot | None = None
        self._directories: dict[str, ModelDirectory] = {}
        self._shared: ModelDirectory | None = None
        self._shards: list[Shard] = [NO_SHARD] * SHARDS
        self._grants: dict[bytes, KeyGrant] = {}
        self.generation = 0
        """Counts every change."""
        self.sells = False
        """Whether there are selling prices."""
        self.moderates = False
        """Whether some calls are frozen, screened, labelled or kept."""
        self.version = ""
        """Of the configuration as a whole; empty before the first."""
        if snapshot is not None:
            self.serve(snapshot.version, snapshot, {})

    def grant(self, digest: bytes) -> KeyGrant | None:
        """What the key with this digest may do; None when there is none."""
        grant = self._grants.get(digest)
        if grant is None:
            raw = self._shards[digest[0]].get(digest)
            if raw is None:
                return None
            # Keys are decoded when they are used first: most of many never are.
            if len(self._grants) >= _GRANTS_MAX:
                self._grants.clear()
            grant = self._grants[digest] = self._granted(decode_grant(raw))
        return grant

    def _granted(self, grant: KeyGrant) -> KeyGrant:
        """A key with what rules say of all its calls, so that no call looks for them."""
        rules = None if self._snapshot is None else self._snapshot.receipts
        if rules and are_sent(rules, grant.tenant, grant.project):
            return msgspec.structs.replace(grant, receipts=True)
        return grant

    def replace_shard(self, number: int, payload: bytes) -> None:
        """Serve by these keys of one shard from now on.

        Raises:
            msgspec.DecodeError: the bytes are no shard.
        """
        self._put_shard(number, decode_shard(payload))

    def _put_shard(self, number: int, shard: Shard) -> None:
        for digest in self._shards[number]:
            self._grants.pop(digest, None)
        self._shards[number] = shard
        self.generation += 1

    def serve(self, version: str, snapshot: Snapshot | None, shards: Mapping[int, Shard]) -> None:
        """Serve by another configuration, all of it from the same moment on.

        Args:
            snapshot: None where it is the one in force.
            shards: those that are other ones.
        """
        if snapshot is not None:
            self.replace(snapshot)
        for number, shard in shards.items():
            self._put_shard(number, shard)
        self.version = version

    def replace(self, snapshot: Snapshot) -> None:
        """Serve by this snapshot from now on."""
        self._shared = ModelDirectory(snapshot)
        names = snapshot.tenants.keys() | {n.partition("/")[0] for n in snapshot.sell if "/" in n}
        self._directories = {name: ModelDirectory(snapshot, name) for name in names}
        if self._snapshot is None or snapshot.receipts != self._snapshot.receipts:
            self._grants.clear()
        self._snapshot = snapshot
        self.sells = bool(snapshot.sell)
        told = (snapshot.moderation, snapshot.freezes, snapshot.labels, snapshot.contents)
        self.moderates = any(told)
        self.generation += 1

    def get(self) -> Snapshot:
        """The snapshot in force.

        Raises:
            ApiError: `no_snapshot`: this gateway has never reached control.
        """
        if self._snapshot is None:
            raise _no_snapshot()
        return self._snapshot

    def directory(self, tenant: str) -> ModelDirectory:
        """The model names that a tenant's callers may use.

        Raises:
            ApiError: `no_snapshot`: this gateway has never reached control.
        """
        directory = self._directories.get(tenant, self._shared)
        if directory is None:
            raise _no_snapshot()
        return directory


def _no_snapshot() -> ApiError:
    return ApiError("no_snapshot", "The gateway is starting; try again in a moment.")
