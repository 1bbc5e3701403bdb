"""Kinds of resources: the spec of each, how it is read, and the one form it is kept in."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from decimal import Decimal
from enum import StrEnum
from itertools import islice
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from tokenschain.control.configuration.resources import PROBLEMS_MAX, Kind, Problem, ResourceKey
from tokenschain.core.compliance.processors import Processor
from tokenschain.core.snapshot import OwnUpstreams, Routing, UpstreamLimits, label_rules
from tokenschain.core.snapshot.cache_rules import CacheRules, Mode
from tokenschain.core.snapshot.data_classes import DataClassRule
from tokenschain.core.snapshot.filings import Filing
from tokenschain.core.snapshot.label_rules import LabelRule
from tokenschain.core.snapshot.moderation_policy import ModerationPolicy
from tokenschain.core.snapshot.receipt_rules import SEND_MEANS, ReceiptRules, Send
from tokenschain.core.snapshot.virtual_models import TOKENS_MAX, VirtualModelEntry
from tokenschain.core.snapshot.zones import Sovereignty, Zone
from tokenschain.infra.config import PriceSettings, UpstreamSettings, declared, validation
from tokenschain.infra.config.validation import Values, Wrong, WrongBy
from tokenschain.infra.config.value_types import SECRET

SINGLE = "default"
"""The name of kinds of which there is one for the platform and one for each tenant."""
PREFERENCE = 100
ENTRIES_MAX = 100
OFFERS_MAX = 50
SPEC_BYTES_MAX = 65_536
SECRET_CHARACTERS_MAX = 16_384
TenantScope = Annotated[str, Meta(pattern=r"^(\*|(project|model)/.+)\Z")]
"""Which of a tenant's calls a rule is for: `*`, `project/NAME` or `model/NAME`."""


class UpstreamSpec(UpstreamSettings, frozen=True, kw_only=True):
    """Where calls go: address, zone, limits, the models it sells and where its keys are."""

    published_only: ClassVar[tuple[str, ...]] = ("credentials", "limits", "id", "tenant")
    id: str = ""
    preference: Annotated[
        int,
        Meta(
            ge=0,
            le=1_000_000,
            description="Place among upstreams that are equal otherwise, the lower first. Those "
            "of the settings file have their place there.",
        ),
    ] = PREFERENCE


class CredentialSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that upstreams name as `stored:NAME`; it is sealed, and never shown again."""

    value: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=SECRET_CHARACTERS_MAX,
            pattern=r"^[\x21-\x7e]+\Z",
            description="The secret itself. Taken in, never given out.",
        ),
        SECRET,
    ] = ""
    fingerprint: Annotated[
        str,
        Meta(
            pattern=r"^([0-9a-f]{12})?\Z",
            description="First characters of a digest of the secret: tells whether two are the "
            "same. Without `value`, it names one that is kept already.",
        ),
        SECRET,
    ] = ""


class OfferSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model as one upstream sells it."""

    upstream: Annotated[str, Meta(description="Name of an upstream of the platform.")]
    model: Annotated[
        str, Meta(description="The model's name there; the same as here by default.")
    ] = ""  # fmt: skip
    price: Annotated[
        PriceSettings | None,
        Meta(description="What it costs there; the catalog's price by default."),
    ] = None
    output_tokens_max: Annotated[
        Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None,
        Meta(description="Longest answer, in tokens."),
    ] = None
    context_window: Annotated[
        Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None,
        Meta(description="Prompt and answer together, in tokens."),
    ] = None
    abilities: Annotated[
        tuple[Literal["tools", "vision", "json_schema", "thinking"], ...] | None,
        Meta(description="What it can do; without it, nothing is ruled out."),
    ] = None


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A model's name and what is behind it, beside what upstreams sell by the catalog."""

    kind: Annotated[
        Literal["chat", "embedding", "rerank"], Meta(description="What it is called for.")
    ] = "chat"  # fmt: skip
    owned_by: Annotated[
        str, Meta(max_length=100, description="Who made it, as `GET /v1/models` says.")
    ] = ""  # fmt: skip
    offers: Annotated[
        tuple[OfferSpec, ...],
        Meta(min_length=1, max_length=OFFERS_MAX, description="Who sells it; see below."),
    ]


class VirtualModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A name that rules resolve to models."""

    entries: Annotated[
        tuple[VirtualModelEntry, ...],
        Meta(min_length=1, max_length=ENTRIES_MAX, description="What it resolves to; see below."),
    ]


class RoutingSpec(Routing, frozen=True, kw_only=True):
    """How the platform's calls find their upstream; virtual models are resources of their own."""

    published_only: ClassVar[tuple[str, ...]] = ("models",)


class TenantRoutingSpec(msgspec.Struct, frozen=True, kw_only=True):
    """How a tenant's own calls find their upstream, within what the platform allows."""

    policy: Annotated[
        str | None, Meta(description="A routing policy; the platform's by default.")
    ] = None  # fmt: skip
    policy_overrides: Annotated[
        dict[TenantScope, str], Meta(description="Policies by `project/NAME` or `model/NAME`.")
    ] = field(default_factory=dict)
    residency: Annotated[
        dict[TenantScope, tuple[Zone, ...]],
        Meta(
            description="Zones that data may go to, by `*`, `project/NAME` or `model/NAME`; only "
            "those that the platform allows as well."
        ),
    ] = field(default_factory=dict)
    sovereignty: Annotated[
        dict[TenantScope, Sovereignty],
        Meta(
            description="Sovereignty modes by the same scopes: `domestic-only`, `zone:NAME`, "
            "`air-gapped` or `none`; they hold beside `residency`, the strictest of all."
        ),
    ] = field(default_factory=dict)
    own_upstreams: Annotated[
        OwnUpstreams,
        Meta(
            description="When the tenant's own upstreams are asked: before the platform's, "
            "instead of them, or among them as the policy orders."
        ),
    ] = "first"


class CacheRulesSpec(CacheRules, frozen=True, kw_only=True):
    """Which responses are cached, for whom and for how long."""

    published_only: ClassVar[tuple[str, ...]] = ("flushed", "classes")


class TenantCacheRulesSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Which of a tenant's responses are cached."""

    mode: Annotated[
        Mode | None, Meta(description="`off`, `exact` or `semantic`; the platform's by default.")
    ] = None
    mode_overrides: Annotated[
        dict[TenantScope, Mode], Meta(description="Modes by `project/NAME` or `model/NAME`.")
    ] = field(default_factory=dict)
    false_hit_rate_max: Annotated[
        dict[TenantScope, Annotated[float, Meta(gt=0, le=0.2)]],
        Meta(
            description="Highest share of wrong answers among semantic hits, by `*`, "
            "`project/NAME` or `model/NAME`."
        ),
    ] = field(default_factory=dict)


class ModerationPolicySpec(ModerationPolicy, frozen=True, kw_only=True):
    """What is screened in requests and answers, and what becomes of what is found."""


class TenantModerationPolicySpec(ModerationPolicy, frozen=True, kw_only=True):
    """The same for a tenant's own calls, beside what the platform says: the strictest holds."""

    scope: Annotated[
        Annotated[str, Meta(pattern=r"^(\*|project/[^/]+)\Z", max_length=75)],
        Meta(description="Which of the tenant's calls: `*` or `project/NAME`."),
    ] = "*"


class FilingSpec(Filing, frozen=True, kw_only=True):
    """A filing or registration with an authority, and the models that it is for."""


class DataClassSpec(DataClassRule, frozen=True, kw_only=True):
    """A class of data: where it goes, how it is kept, and who reads it."""


class ProcessorSpec(Processor, frozen=True, kw_only=True):
    """Somebody who is handed data of calls: for what, by which contract, and where."""


class LabelChoice(msgspec.Struct, frozen=True, kw_only=True):
    """How answers are labelled, where it is not as otherwise."""

    explicit: Annotated[
        label_rules.Explicit | None, Meta(description=label_rules.EXPLICIT_MEANS)
    ] = None
    implicit: Annotated[
        label_rules.Implicit | None, Meta(description=label_rules.IMPLICIT_MEANS)
    ] = None
    text_zh: Annotated[label_rules.TextZh | None, Meta(description=label_rules.TEXT_ZH_MEANS)] = (
        None
    )
    text_en: Annotated[label_rules.TextEn | None, Meta(description=label_rules.TEXT_EN_MEANS)] = (
        None
    )
    producer: Annotated[
        label_rules.Producer | None, Meta(description=label_rules.PRODUCER_MEANS)
    ] = None


class LabelRulesSpec(LabelRule, frozen=True, kw_only=True):
    """How answers say that AI made them."""

    agreed: Annotated[
        dict[
            Annotated[str, Meta(pattern=r"^[\w.@-]{1,64}\Z")],
            Annotated[str, Meta(min_length=1, max_length=100)],
        ],
        Meta(
            description="Tenants that may leave out the notice, each with the version of the "
            "agreement by which its users know and bear the duty (Measures, article 9)."
        ),
    ] = field(default_factory=dict)


class TenantLabelRulesSpec(LabelChoice, frozen=True, kw_only=True):
    """The same for a tenant's answers; what it does not say is as the platform has it."""

    overrides: Annotated[
        dict[Annotated[str, Meta(pattern=r"^project/[^/]+\Z", max_length=75)], LabelChoice],
        Meta(description="What is otherwise for a project, by `project/NAME`."),
    ] = field(default_factory=dict)


class ReceiptRulesSpec(ReceiptRules, frozen=True, kw_only=True):
    """Which answers have a receipt of the audit log."""


class TenantReceiptRulesSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The same for a tenant's answers; what it does not say is as the platform has it."""

    send: Annotated[Send | None, Meta(description=SEND_MEANS)] = None
    overrides: Annotated[
        dict[Annotated[str, Meta(pattern=r"^project/[^/]+\Z", max_length=75)], Send],
        Meta(description="What is otherwise for a project, by `project/NAME`."),
    ] = field(default_factory=dict)


Spec = (
    UpstreamSpec | CredentialSpec | ModelSpec | VirtualModelSpec | RoutingSpec | TenantRoutingSpec
    | CacheRulesSpec | TenantCacheRulesSpec | ModerationPolicySpec | TenantModerationPolicySpec
    | FilingSpec | DataClassSpec | ProcessorSpec
    | LabelRulesSpec | TenantLabelRulesSpec | ReceiptRulesSpec | TenantReceiptRulesSpec
)  # fmt: skip

_OF_PLATFORM: dict[Kind, type[Spec]] = {
    Kind.UPSTREAM: UpstreamSpec,
    Kind.CREDENTIAL: CredentialSpec,
    Kind.MODEL: ModelSpec,
    Kind.VIRTUAL_MODEL: VirtualModelSpec,
    Kind.ROUTING: RoutingSpec,
    Kind.CACHE_RULES: CacheRulesSpec,
    Kind.MODERATION_POLICY: ModerationPolicySpec,
    Kind.FILING: FilingSpec,
    Kind.DATA_CLASS: DataClassSpec,
    Kind.PROCESSOR: ProcessorSpec,
    Kind.LABEL_RULES: LabelRulesSpec,
    Kind.RECEIPT_RULES: ReceiptRulesSpec,
}
_OF_TENANT: dict[Kind, type[Spec]] = {
    Kind.UPSTREAM: UpstreamSpec,
    Kind.CREDENTIAL: CredentialSpec,
    Kind.VIRTUAL_MODEL: VirtualModelSpec,
    Kind.ROUTING: TenantRoutingSpec,
    Kind.CACHE_RULES: TenantCacheRulesSpec,
    Kind.MODERATION_POLICY: TenantModerationPolicySpec,
    Kind.DATA_CLASS: DataClassSpec,
    Kind.LABEL_RULES: TenantLabelRulesSpec,
    Kind.RECEIPT_RULES: TenantReceiptRulesSpec,
}
_OLD_NAMES_IN = {
    Kind.UPSTREAM: "upstreams.", Kind.ROUTING: "routing.", Kind.CACHE_RULES: "cache.",
}  # fmt: skip
"""Groups of the settings file that the specs were, where names were other ones."""
_SELLING = ("provider", "base_url", "models", "prices", "kinds", "offers")
"""Fields that decide which models there are."""
_SINGLES = (Kind.ROUTING, Kind.CACHE_RULES, Kind.LABEL_RULES, Kind.RECEIPT_RULES)
_LOWER = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_CLASS = re.compile(r"[A-Za-z0-9_-]{1,32}")
_MODEL = re.compile(r"[^\s\x00-\x1f\x7f?#%]{1,200}")
_NAMES: dict[Kind, tuple[re.Pattern[str], str]] = {
    Kind.UPSTREAM: (_LOWER, "at most 63 lower case letters, digits, `.`, `_` or `-`"),
    Kind.CREDENTIAL: (_LABEL, "at most 63 letters, digits, `.`, `_` or `-`"),
    Kind.MODEL: (_MODEL, "at most 200 characters without spaces, `?`, `#` and `%`"),
    Kind.VIRTUAL_MODEL: (_MODEL, "at most 200 characters without spaces, `?`, `#` and `%`"),
    Kind.MODERATION_POLICY: (_LOWER, "at most 63 lower case letters, digits, `.`, `_` or `-`"),
    Kind.FILING: (_LOWER, "at most 63 lower case letters, digits, `.`, `_` or `-`"),
    Kind.PROCESSOR: (_LOWER, "at most 63 lower case letters, digits, `.`, `_` or `-`"),
    Kind.DATA_CLASS: (_CLASS, "at most 32 letters, digits, `_` or `-`"),
}


def spec_type(kind: Kind, tenant: str) -> type[Spec] | None:
    """What the spec of a kind is; None where a tenant has no resources of it."""
    return (_OF_TENANT if tenant else _OF_PLATFORM).get(kind)


def read(key: ResourceKey, values: object) -> tuple[Spec | None, list[Problem]]:
    """A spec as somebody gives it, and all that is wrong with it.

    Where something is, the spec is without the fields that are wrong, so that the rest can be
    checked at the same time; None where nothing can be made of it.
    """
    problems = [Problem(*key, field, why) for field, why in _name_problems(key)]
    wanted = spec_type(key.kind, key.tenant)
    if wanted is None:
        return None, problems
    if not isinstance(values, dict):
        return None, [*problems, Problem(*key, "spec", "spec must hold `name: value` pairs")]
    prefix = _OLD_NAMES_IN.get(key.kind, "resource.")
    unusable = [_said(wrong) for wrong in validation.unusable(values, "")]
    if unusable:
        return None, [*problems, *(Problem(*key, *said) for said in dict.fromkeys(unusable))]
    if len(msgspec.json.encode(values)) > SPEC_BYTES_MAX:
        why = f"spec is larger than {SPEC_BYTES_MAX} bytes"
        return None, [*problems, Problem(*key, "spec", why)]
    found = list(islice(validation.wrongs(wanted, values, prefix.rstrip(".")), PROBLEMS_MAX))
    if key.kind is not Kind.CREDENTIAL:
        found += validation.raw_secrets(values, prefix.rstrip("."))
    problems += [
        Problem(*key, *_said(wrong._replace(path=wrong.path.removeprefix(prefix))))
        for wrong in dict.fromkeys(found)
    ]
    wrong_fields = {field_of(problem) for problem in problems}
    right = {name: value for name, value in values.items() if name not in wrong_fields}
    try:
        return _named(key, validation.converted(wanted, right)), problems
    except msgspec.ValidationError as error:
        return None, problems or [Problem(*key, "spec", str(error))]


def field_of(problem: Problem) -> str:
    """The field of a spec that a problem is in, as `entries` of `entries[0].model`."""
    return re.split(r"[.[]", problem.field, maxsplit=1)[0]


def may_sell_otherwise(problem: Problem) -> bool:
    """Whether a spec without the field that is wrong may sell other models than what was meant."""
    selling = problem.kind in (Kind.UPSTREAM, Kind.MODEL)
    return selling and may_be_of(problem, _SELLING)


def may_be_of(problem: Problem, fields: Container[str]) -> bool:
    """Whether what is wrong is one of these fields, or has a name that may be meant for one."""
    wanted = spec_type(problem.kind, problem.tenant)
    field = field_of(problem)
    misspelt = wanted is not None and field != "name" and field not in declared.fields_of(wanted)
    return field in fields or misspelt


def stored(key: ResourceKey, values: Values) -> Spec:
    """A spec as it is kept.

    Raises:
        msgspec.ValidationError: it is of another version.
    """
    wanted = spec_type(key.kind, key.tenant)
    if wanted is None:
        raise msgspec.ValidationError(f"a tenant has no {key.kind}")
    return _named(key, validation.converted(wanted, values))


def _named(key: ResourceKey, spec: Spec) -> Spec:
    if isinstance(spec, UpstreamSpec):
        return msgspec.structs.replace(spec, id=key.name)
    return spec


def canonical(spec: Spec) -> Values:
    """The one form of a spec: what differs from the defaults, fields as they are declared."""
    found = _plain(spec)
    assert isinstance(found, dict)
    return found


def _plain(value: object) -> Any:
    if isinstance(value, msgspec.Struct):
        found = {}
        for name, one in declared.fields_of(type(value)).items():
            inner = _value_of(value, name)
            if inner != one.default:
                found[name] = _plain(inner)
        return found
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Decimal):
        return format(value.normalize(), "f")
    return value


def _value_of(struct: msgspec.Struct, name: str) -> object:
    """A field; of an upstream's limits, which stand beside the others, too."""
    if isinstance(struct, UpstreamSettings) and name in UpstreamLimits.__struct_fields__:
        return getattr(struct.limits, name)
    return getattr(struct, name)


def _name_problems(key: ResourceKey) -> list[tuple[str, str]]:
    if spec_type(key.kind, key.tenant) is None:
        return [("tenant", f"a {key.kind} is the platform's: leave out tenant")]
    if key.kind in _SINGLES:
        if key.name != SINGLE:
            return [("name", f"there is one only, and its name is `{SINGLE}`")]
        return []
    pattern, words = _NAMES[key.kind]
    return [] if pattern.fullmatch(key.name) else [("name", f"a name has {words}")]


def _said(wrong: Wrong) -> tuple[str, str]:
    """The field and what is wrong with it."""
    path = wrong.path
    match wrong.fault:
        case WrongBy.RENAMED:
            return (
                path,
                f"`{path}` is now {wrong.why.replace('routing.', '').replace('cache.', '')}",
            )
        case WrongBy.UNKNOWN:
            return path, f"there is no field `{path}`" + (f"; {wrong.why}" if wrong.why else "")
        case WrongBy.MISSING:
            return path, f"`{path}` is missing: {wrong.why}"
        case WrongBy.SECRET:
            return path, f"`{path}` {wrong.why}"
    return path, f"{path} = {wrong.shown}: {wrong.why}"
