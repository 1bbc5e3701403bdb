"""Authorization: tenants, projects, roles, key grants, and the one decision `may`."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple, Protocol

import msgspec

from tokenschain.core import data_class

PLATFORM = "*"
"""Of a binding's tenant: every tenant, and what belongs to none."""


class Disconnect(StrEnum):
    """What happens upstream when the caller leaves in the middle of an answer."""

    CANCEL = "cancel"
    """Close the upstream at once; unseen usage is estimated and flagged so."""
    DRAIN = "drain"
    """Read the answer to its end, so that the usage on the bill is exact."""


class Resource(NamedTuple):
    """What is acted on; a field left empty is not of one such part."""

    tenant: str = ""
    account: str = ""
    project: str = ""
    environment: str = ""
    model: str = ""
    """Empty: what is about all models, which a binding for certain ones does not reach."""
    api: str = ""
    """An API below `/v1/`, as `chat/completions`."""


class Binding(Protocol):
    """Permissions over a part of the tree; a key is one, a user may have several."""

    @property
    def permissions(self) -> frozenset[str]:
        """As `keys:create`; `keys:*` and `*:read` stand for all of a kind, `*` for everything."""

    @property
    def tenant(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def project(self) -> str: ...
    @property
    def environment(self) -> str: ...
    @property
    def models(self) -> tuple[str, ...] | None: ...
    @property
    def apis(self) -> tuple[str, ...] | None: ...


class RoleBinding(msgspec.Struct, frozen=True):
    """A role given to a user or service account over a part of the tree; see `Binding`."""

    permissions: frozenset[str]
    tenant: str = ""
    account: str = ""
    project: str = ""
    environment: str = ""
    models: tuple[str, ...] | None = None
    apis: tuple[str, ...] | None = None


CALL = "models:call"
_CALLS = frozenset({CALL})


CLASSES_APART = "+"


class KeyGrant(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one API key may do. The key itself is nowhere; only its hash is."""

    key_id: str
    tenant: str
    project: str
    environment: str
    models: tuple[str, ...] | None = None
    """Model names the key may use; None means all."""
    expires_at_s: float | None = None
    """Unix time after which the key is refused."""
    revoked: bool = False
    disconnect: Disconnect = Disconnect.CANCEL
    account: str = ""
    """The sub-account its project belongs to, if any."""
    apis: tuple[str, ...] | None = None
    """APIs below `/v1/` that the key may use, as `chat/completions`; None means all."""
    networks: tuple[str, ...] | None = None
    """Networks its calls may come from, as `10.0.0.0/8`; None means anywhere."""
    tags: tuple[str, ...] = ()
    """`name=value`, noted on every call unless the call brings that name itself."""
    priority: str = ""
    """Of calls that do not say theirs."""
    data_class: str = ""
    """Ties its calls to data zones; of one call, also several with `CLASSES_APART` between: the
    rules of each hold."""
    routing_details: bool = False
    """Whether it is shown costs, loads and upstreams that its calls did not go to."""
    suspended: str = ""
    """Why none of its calls are served: its tenant or project is closed."""
    receipts: bool = False
    """Whether its calls get a receipt unasked: a gateway's own note of `Snapshot.receipts`."""

    def of_classes(self, names: Iterable[str]) -> KeyGrant:
        """The same key for a call whose content is of other data classes, too: the highest grade
        of all holds."""
        own = self.data_class.split(CLASSES_APART) if self.data_class else ()
        joined = CLASSES_APART.join(sorted(data_class.in_force({*own, *names})))
        return msgspec.structs.replace(self, data_class=joined)

    @property
    def permissions(self) -> frozenset[str]:
        """A key may call; it administers nothing."""
        return _CALLS


def may(bindings: Iterable[Binding], action: str, resource: Resource) -> bool:
    """Whether any of the bindings permits the action on the resource: the one decision.

    Args:
        action: `kind:verb`, as `keys:create`.
    """
    for binding in bindings:
        permissions = binding.permissions
        if action not in permissions and not _by_pattern(permissions, action):
            continue
        tenant = binding.tenant
        if tenant != PLATFORM and (tenant != resource.tenant or not tenant):
            continue
        # A binding over a part does not reach the whole: who is bound to a project
        # may not do to its tenant what it may do to the project.
        if binding.account and binding.account != resource.account:
            continue
        if binding.project and binding.project != resource.project:
            continue
        if binding.environment and binding.environment != resource.environment:
            continue
        # Nor does one for certain models reach what is wider than a model: people, projects,
        # money and configuration are about all of them.
        models = binding.models
        if models is not None and (not resource.model or resource.model not in models):
            continue
        apis = binding.apis
        if apis is not None and resource.api and resource.api not in apis:
            continue
        return True
    return False


def _by_pattern(permissions: frozenset[str], action: str) -> bool:
    if "*" in permissions:
        return True
    kind, _, verb = action.partition(":")
    return f"{kind}:*" in permissions or f"*:{verb}" in permissions


def may_use(grant: KeyGrant, model: str, api: str = "") -> bool:
    """Whether the key may call the model, through that API when one is named."""
    return may(
        (grant,),
        CALL,
        Resource(grant.tenant, grant.account, grant.project, grant.environment, model, api),
    )


@lru_cache(maxsize=1_000)
def _networks(names: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(name) for name in names)


def is_within(address: str, networks: tuple[str, ...]) -> bool:
    """Whether an address is in one of the networks."""
    try:
        found = ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return any((mapped or found) in network for network in _networks(networks))


ACTIONS: dict[str, str] = {
    "org:read": "See tenants, accounts, projects and environments.",
    "org:write": "Make, change and close them.",
    "keys:read": "List API keys; never the keys themselves.",
    "keys:create": "Issue API keys, and rotate them.",
    "keys:revoke": "Revoke API keys.",
    "limits:read": "See rates and budgets.",
    "limits:write": "Set rates and budgets.",
    "usage:read": "See calls, tokens and charges.",
    "usage:export": "Export single calls.",
    "billing:read": "See wallets, ledger entries and prices.",
    "billing:write": "Deposit, set prices, rate again.",
    "users:read": "See users, service accounts, roles and bindings.",
    "users:write": "Make and change them.",
    "factors:reset": "Take away a second factor that its user lost.",
    "records:read": "See call records that the ledger could not take (on the platform).",
    "records:write": "Enter them again, or discard them (on the platform).",
    "alerts:read": "See alert targets and what was sent.",
    "alerts:write": "Set alert targets, acknowledge and silence alerts.",
    "cache:read": "See what the cache did and saved.",
    "cache:write": "Drop answers from the cache.",
    "cache:inspect": "Read questions that callers asked often, and the answers they got.",
    "moderation:read": "See the review queue of moderation; never the texts.",
    "moderation:review": "Open the texts of cases, claim and decide them.",
    "moderation:write": "Decide what was escalated, freeze models and tenants.",
    "compliance:read": "See what is due to authorities, incidents and data subjects' requests.",
    "compliance:write": "Open, report and close incidents; take and decide such requests.",
    "audit:read": "Read what was changed by whom.",
    "content:read": "See content policies, legal holds and erasures; never what calls said.",
    "content:write": "Set content policies and legal holds.",
    "content:open": "Read and export what calls said; each time with a reason, on record.",
    "content:erase": "Erase what calls said, for good.",
    "data:general": "Read what calls of general data said, where its class is for cleared readers.",
    "data:personal": "The same of personal data.",
    "data:sensitive": "The same of sensitive personal data.",
    "data:important": "The same of important data.",
    "data:core": "The same of core data.",
    "approvals:read": "See acts that wait for a second person.",
    "approvals:write": "Approve or reject them; never one's own.",
    "configuration:read": "See upstreams, virtual models, routing and cache rules, and their "
    "revisions.",
    "configuration:write": "Change them, and roll revisions back.",
    "models:read": "See models and upstreams.",
    "models:call": "Call models.",
}
"""Everything that may be permitted."""

ROLES: dict[str, frozenset[str]] = {
    "owner": frozenset({"*"}),
    "admin": frozenset(
        {"org:*", "keys:*", "limits:*", "usage:*", "billing:read", "users:*", "alerts:*",
         "models:*", "cache:*", "records:*", "configuration:*", "moderation:*",
         "content:read", "content:write", "approvals:*", "compliance:*"}
    ),
    "developer": frozenset(
        {"org:read", "keys:read", "keys:create", "keys:revoke", "limits:read", "usage:read",
         "models:*", "cache:*"}
    ),
    "finance": frozenset(
        {"org:read", "limits:read", "limits:write", "usage:*", "billing:*", "alerts:*"}
    ),
    "auditor": frozenset({"*:read"}),
    "reviewer": frozenset({"moderation:read", "moderation:review", "alerts:read"}),
    "viewer": frozenset({"org:read", "keys:read", "limits:read", "usage:read", "models:read"}),
    "system-admin": frozenset(
        {"org:*", "keys:*", "limits:*", "usage:*", "billing:read", "alerts:*", "models:read",
         "cache:read", "cache:write", "records:*", "configuration:*", "approvals:*"}
    ),
    "security-admin": frozenset(
        {"org:read", "users:*", "factors:reset", "keys:read", "keys:revoke", "moderation:*",
         "alerts:*", "configuration:read", "approvals:*", "compliance:*"}
    ),
    "audit-admin": frozenset({"*:read"}),
}  # fmt: skip
"""The roles that are always there; tenants may define others."""

ACCOUNT_ACTIONS = ("users:write", "factors:reset")
"""Who is permitted one of these has power over other people's accounts."""

ADMINISTRATORS = ("system-admin", "security-admin", "audit-admin")
"""The three roles of MLPS 2.0, level 3 (GB/T 22239-2019, 8.1.4.2 d)."""

DUTIES: dict[str, tuple[str, ...]] = {
    "system": ("configuration:write", "org:write"),
    "security": ACCOUNT_ACTIONS,
    "audit": ("audit:read",),
}
"""What each of the three does that the others may not: who is permitted one of these, has the
duty."""

APART: tuple[tuple[str, str], ...] = (("keys:create", "audit:read"),)
"""Separation of duties: only an owner may hold both."""


def is_power_over_accounts(permissions: frozenset[str]) -> bool:
    """Whether permissions have one of `ACCOUNT_ACTIONS`."""
    return any(a in permissions or _by_pattern(permissions, a) for a in ACCOUNT_ACTIONS)


def duties_of(permissions: frozenset[str]) -> frozenset[str]:
    """Which of `DUTIES` somebody has by permissions."""
    return frozenset(
        duty
        for duty, actions in DUTIES.items()
        if any(a in permissions or _by_pattern(permissions, a) for a in actions)
    )


def conflict(permissions: frozenset[str]) -> tuple[str, str] | None:
    """Two permissions that one person may not hold together; None when all is well."""
    if "*" in permissions:
        return None
    for one, other in APART:
        if all(a in permissions or _by_pattern(permissions, a) for a in (one, other)):
            return one, other
    return None
