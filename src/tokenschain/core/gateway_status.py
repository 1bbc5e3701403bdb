"""Status of a gateway worker as it says it: configuration, journal, upstreams, what it lost."""

from __future__ import annotations

import msgspec

from tokenschain.core.moderation.engine_record import EngineStatus

REPORTED_MAX_S = 60.0
"""Gateways tell of themselves every few seconds; one that has not for so long has ended."""
HEARD_MAX_S = 60.0
"""Control answers a gateway's poll every 20 s; one that heard nothing for so long is cut off."""
JOURNAL_LAG_WARN_S = 30.0
JOURNAL_SHARE_WARN, JOURNAL_SHARE_FAIL = 0.5, 0.9
"""Of what a journal may hold."""
FAILURES_WARN, FAILURE_SHARE_WARN = 3, 0.2
"""Of an upstream's last attempts."""
MISSING = "missing"
"""The state of a key whose reference leads to nothing."""


class KeyStatus(msgspec.Struct, frozen=True):
    """One key of an upstream."""

    number: int
    """From 1, in the order of the upstream's `credential`."""
    state: str
    """Of `providers.credential_pool.KeyState`, or `MISSING`."""
    rests_s: float = 0.0
    """Until it is tried again."""


class UpstreamStatus(msgspec.Struct, frozen=True):
    """What one worker knows of an upstream."""

    id: str
    breaker: str
    """See `core.routing.health.Health.state`."""
    why: str = ""
    """Code of the last failure; empty where none came since it answered last."""
    ready_in_s: float = 0.0
    """Until a call may be tried."""
    running: int = 0
    """Calls that are there now."""
    leaves: bool = False
    """Whether it gets no new calls: it is drained, or no longer in the configuration."""
    keys: tuple[KeyStatus, ...] = ()


class RefusedRevision(msgspec.Struct, frozen=True):
    """A configuration that a worker could not use: it keeps the one before, but for what
    protects."""

    revision: int
    version: str
    why: str
    applied: tuple[str, ...] = ()
    """The parts of it that are in force all the same: `keys`, `limits`, `residency`."""


class RefusedKey(msgspec.Struct, frozen=True):
    """An API key that may no longer be used, or not from there, and is used all the same."""

    id: str
    tenant: str
    why: str
    """Error code of the last refusal."""
    refused: int
    """Requests since the process began."""
    last_s: float
    """When it was refused last; Unix time."""


class PackStatus(msgspec.Struct, frozen=True):
    """An installed keyword pack of moderation, but for the one that comes with the platform."""

    name: str
    version: str
    renewed_s: float
    """When its file was written; Unix time."""
    words: int
    expired: int
    """Words among them that no longer count."""


class GatewayStatus(msgspec.Struct, frozen=True):
    """What one worker says of itself."""

    name: str
    worker: int
    pid: int
    version: str
    """Of the program."""
    at_s: float
    """When it said so; Unix time by its clock."""
    revision: int
    """Of the configuration that it serves by; 0 before the first."""
    snapshot_age_s: float
    """Since control answered last."""
    journal_backlog_bytes: int
    """Records that control has not acknowledged."""
    journal_bytes_max: int
    journal_lag_s: float
    """Since control had everything."""
    upstreams: tuple[UpstreamStatus, ...] = ()
    lost: dict[str, str] = {}
    """What does not answer, and why: `control`, `budgets`, `rates`, `redis`, `semantic`."""
    refused: RefusedRevision | None = None
    """The latest configuration, where it is of no use there."""
    refused_keys: tuple[RefusedKey, ...] = ()
    """Those of the last minutes, the latest last."""
    variables: tuple[str, ...] = ()
    """Environment variables that the configuration names as credentials."""
    set_variables: tuple[str, ...] | None = None
    """Those that may hold credentials and were handed on as it started; None: it does not say."""
    secrets: dict[str, tuple[str, ...]] = {}
    """Fingerprints of what it accepts of `infra.security.rotation.RotatedSecret`, the one in force
    first; what it has not needed yet is left out."""
    waiting: int = 0
    """Calls that wait for an upstream with room."""
    packs: tuple[PackStatus, ...] = ()
    words_missing: int = 0
    """Of what the standard asks, by all installed packs together."""
    engines: tuple[EngineStatus, ...] = ()
    """Of moderation: the local one first."""
