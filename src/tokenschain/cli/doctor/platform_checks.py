"""Checks of the running platform: what control, gateways, semantic process and engine say."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from tokenschain import __version__
from tokenschain.cli import admin_client, ports
from tokenschain.cli.doctor.findings import Findings
from tokenschain.cli.doctor.machine_checks import STATUS_FRESH_S, ThisMachine, check_skew
from tokenschain.core.gateway_status import (
    FAILURE_SHARE_WARN,
    FAILURES_WARN,
    HEARD_MAX_S,
    JOURNAL_LAG_WARN_S,
    JOURNAL_SHARE_FAIL,
    JOURNAL_SHARE_WARN,
    MISSING,
    REPORTED_MAX_S,
    GatewayStatus,
    RefusedKey,
    RefusedRevision,
    UpstreamStatus,
)
from tokenschain.core.upstream_report import MEND_VARIABLE
from tokenschain.infra import config
from tokenschain.infra.config import Settings
from tokenschain.infra.gateway_status_files import read_statuses

BEHIND_LOOKS, BEHIND_WAIT_S = 4, 1.0
"""A gateway follows within a second, and says so once a second."""
_AT_WORK = ("closed", "slow start")
_USABLE = ("ready", "cooling")


class DatabaseSeen(msgspec.Struct, frozen=True):
    """See `control.api.diagnostics.DatabaseDiagnosis`."""

    kind: str = ""
    unix_time_s: float | None = None
    migration: str | None = None
    migration_latest: str = ""


class UpstreamSeen(msgspec.Struct, frozen=True):
    """See `control.api.diagnostics.UpstreamDiagnosis`."""

    id: str
    zone: str = ""
    credentials: int = 0
    probe: str = ""
    health: str = ""
    succeeded: int = 0
    failed: int = 0
    last_success_s: float | None = None
    last_failure_s: float | None = None
    last_error: str = ""
    unset_variables: dict[str, list[str]] = {}


class GatewaySeen(msgspec.Struct, frozen=True):
    """See `control.api.diagnostics.GatewayDiagnosis`."""

    name: str
    worker: int
    version: str
    at_s: float
    received_s: float
    revision: int
    snapshot_age_s: float
    journal_backlog_bytes: int
    journal_bytes_max: int
    journal_lag_s: float
    lost: dict[str, str]
    rejected_revision: int | None = None
    rejected_reason: str = ""
    applied_parts: tuple[str, ...] = ()
    refused_keys: tuple[RefusedKey, ...] = ()

    @property
    def place(self) -> str:
        """Which worker of which gateway it is, whatever process does its work."""
        return self.name.rpartition("-")[0]

    @property
    def status(self) -> GatewayStatus:
        """As a gateway of this machine leaves it."""
        rejected = None
        if self.rejected_revision is not None:
            rejected = RefusedRevision(
                self.rejected_revision, "", self.rejected_reason, self.applied_parts
            )
        return GatewayStatus(
            self.name, self.worker, 0, self.version, self.at_s, self.revision,
            self.snapshot_age_s, self.journal_backlog_bytes, self.journal_bytes_max,
            self.journal_lag_s, lost=self.lost, refused=rejected, refused_keys=self.refused_keys,
        )  # fmt: skip


class RecordsSeen(msgspec.Struct, frozen=True):
    """See `control.api.diagnostics.RecordsDiagnosis`."""

    rejected: int = 0


class PlatformSeen(msgspec.Struct, frozen=True):
    """What control says of the platform; see `GET /api/v1/diagnostics`."""

    version: str
    unix_time_s: float
    revision: int
    published_revision: int
    database: DatabaseSeen
    recent_s: float
    upstreams: list[UpstreamSeen]
    records: RecordsSeen
    semantic: dict[str, bool]
    gateways: tuple[GatewaySeen, ...] = ()


class Platform(NamedTuple):
    """What the checks look at."""

    machine: ThisMachine
    told: PlatformSeen | None
    """None: control does not answer."""
    why: str
    """Why it does not."""
    asked_s: float
    """When control was asked, and when it had answered; Unix time."""
    answered_s: float

    @property
    def settings(self) -> Settings:
        return self.machine.settings

    @property
    def elsewhere(self) -> list[GatewaySeen]:
        """Gateways of other machines: of each worker the process that was heard last."""
        told = () if self.told is None else self.told.gateways
        latest = {one.place: one for one in sorted(told, key=lambda one: one.received_s)}
        here = read_statuses(self.settings.data_dir)
        for name in {status.name.rpartition("-")[0] for status in here}:
            latest.pop(name, None)
        return list(latest.values())


def running_gateways(settings: Settings) -> Iterator[GatewayStatus]:
    """What the workers of this machine say that still run."""
    for status in read_statuses(settings.data_dir):
        if time.time() - status.at_s < STATUS_FRESH_S and _is_alive(status.pid):
            yield status


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def ask(machine: ThisMachine) -> Platform:
    """Ask control how the platform is."""
    asked_s = time.time()
    try:
        answer = admin_client.call(machine.settings, "GET", "/api/v1/diagnostics")
        told = msgspec.convert(answer, PlatformSeen)
    except admin_client.AdminError as error:
        return Platform(machine, None, str(error), asked_s, time.time())
    except msgspec.ValidationError as error:
        why = f"control is of another version: {error}"
        return Platform(machine, None, why, asked_s, time.time())
    return Platform(machine, told, "", asked_s, time.time())


def check_control(platform: Platform, found: Findings) -> None:
    """Control answers, its program and its database are of one version, its clock is ours."""
    told, at = platform.told, platform.settings.control_base_url
    if told is None:
        found.fail(platform.why, "start it, or look at its log; --offline leaves it out")
        return
    found.ok(f"answers at {at}, version {told.version}")
    if told.version != __version__:
        found.warn(
            f"control is of version {told.version}, this command of {__version__}",
            "run one version on all machines; see docs/guides/upgrade.md",
        )
    database = told.database
    if database.migration != database.migration_latest:
        found.fail(
            f"the database is at migration {database.migration}, control knows "
            f"{database.migration_latest}",
            "restart control: it migrates",
        )
    check_skew("control's clock", told.unix_time_s, platform.asked_s, platform.answered_s, found)
    if told.published_revision < told.revision - 1:
        found.warn(
            f"control publishes revision {told.published_revision}, the database has "
            f"{told.revision}",
            "look at control's log for `publish_failed`",
        )


def check_gateways(platform: Platform, found: Findings) -> None:
    """Gateways run, serve what control publishes, and ship their records: this machine's by what
    they say here, those of others by what they told control."""
    settings, told = platform.settings, platform.told
    statuses = platform.machine.gateways
    if told is not None:
        for _ in range(BEHIND_LOOKS):
            if all(status.revision >= told.published_revision for status in statuses):
                break
            time.sleep(BEHIND_WAIT_S)
            statuses = tuple(running_gateways(settings))
    if not statuses:
        _check_no_gateway(settings, found)
    for status in statuses:
        _check_gateway(f"gateway-{status.worker}", status, told, found)
    for _ in range(BEHIND_LOOKS):
        if platform.told is None or all(
            one.revision >= platform.told.published_revision for one in platform.elsewhere
        ):
            break
        time.sleep(BEHIND_WAIT_S)
        platform = ask(platform.machine)
    for one in platform.elsewhere:
        _check_elsewhere(one, platform, found)


def _check_elsewhere(one: GatewaySeen, platform: Platform, found: Findings) -> None:
    """A gateway of another machine."""
    assert platform.told is not None, "who told of it"
    silent_s = platform.told.unix_time_s - one.received_s
    if silent_s > REPORTED_MAX_S:
        found.warn(
            f"{one.place} has told control nothing for {silent_s:.0f} s",
            "it ended, or cannot reach control: look at its log; ten minutes after its last word "
            "it is forgotten",
        )
        return
    whose = f"the clock of {one.place}"
    check_skew(whose, one.at_s, one.received_s, one.received_s, found, "control's")
    _check_gateway(one.place, one.status, platform.told, found)


def _check_no_gateway(settings: Settings, found: Findings) -> None:
    """Either none runs on this machine, or it ended."""
    if any(read_statuses(settings.data_dir)):
        found.fail(
            "a gateway ran on this machine and runs no more",
            "start it; its last log lines say why it ended",
        )
    else:
        found.ok("none on this machine")


def _check_gateway(
    name: str, status: GatewayStatus, told: PlatformSeen | None, found: Findings
) -> None:
    before = len(found)
    if status.version != __version__:
        found.warn(
            f"{name} is of version {status.version}, this command of {__version__}",
            "restart it; see docs/guides/upgrade.md",
        )
    if not status.revision:
        found.fail(f"{name} has no configuration yet", "start control, or look at why it is lost")
    elif status.refused is not None:
        applied = ", ".join(status.refused.applied) or "nothing"
        found.fail(
            f"{name} keeps revision {status.revision}, since it cannot use "
            f"{status.refused.revision}: {status.refused.why} (in force of it: {applied})",
            "restart it with control's version, or roll the revision back: "
            "`tokenschain revisions rollback`",
        )
    elif told is not None and status.revision < told.published_revision:
        found.fail(
            f"{name} serves by revision {status.revision}, control publishes "
            f"{told.published_revision}",
            "its log says why it does not take it",
        )
    if status.snapshot_age_s > HEARD_MAX_S:
        found.warn(
            f"{name} has heard nothing of control for {status.snapshot_age_s:.0f} s",
            "calls go on with the configuration it has; look at the network between them",
        )
    share = status.journal_backlog_bytes / status.journal_bytes_max
    backlog = f"{name} holds {status.journal_backlog_bytes / 1e6:.1f} MB of records"
    mend = "let control and its database run; beyond `journal.total_bytes_max` calls are refused"
    if share >= JOURNAL_SHARE_FAIL:
        found.fail(f"{backlog}, {share:.0%} of what it may", mend)
    elif share >= JOURNAL_SHARE_WARN or status.journal_lag_s > JOURNAL_LAG_WARN_S:
        found.warn(f"{backlog} that control has not got for {status.journal_lag_s:.0f} s", mend)
    for what, why in status.lost.items():
        found.warn(
            f"{name} cannot reach {_LOST.get(what, what)}: {why or 'no answer'}",
            _WITHOUT.get(what, ""),
        )
    if len(found) == before:
        found.ok(f"{name} serves by revision {status.revision}, records are with control")


_LOST = {"control": "control", "redis": "Redis", "semantic": "the semantic process",
         "budgets": "control for budgets", "rates": "control for rates"}  # fmt: skip
_WITHOUT = {
    "control": "calls go on with the configuration it has, records wait in its journal",
    "redis": "each gateway counts an equal share of every rate; the cache is its own",
    "rates": "each gateway counts an equal share of every rate",
    "budgets": "limits with `on_unavailable: deny` refuse calls once their leases are used up",
    "semantic": "similar questions are answered by upstreams",
}


def check_upstreams(platform: Platform, found: Findings) -> None:
    """Each upstream: what calls met there lately, its breaker and why, its keys."""
    told = platform.told
    seen = {} if told is None else {upstream.id: upstream for upstream in told.upstreams}
    by_id: dict[str, list[tuple[str, UpstreamStatus]]] = {}
    for status in platform.machine.gateways:
        for upstream in status.upstreams:
            by_id.setdefault(upstream.id, []).append((f"gateway-{status.worker}", upstream))
    now_s = told.unix_time_s if told is not None else time.time()
    for name in sorted(seen if told is not None else by_id):
        _check_upstream(name, seen.get(name), by_id.get(name, ()), now_s, found)


def _check_upstream(
    name: str,
    seen: UpstreamSeen | None,
    at_gateways: Sequence[tuple[str, UpstreamStatus]],
    now_s: float,
    found: Findings,
) -> None:
    before = len(found)
    met = "no recent calls" if seen is None else _met(seen, now_s)
    keys = _keys_of(at_gateways)
    breakers = [
        f"{gateway}: breaker {up.breaker}" + (f" ({up.why})" if up.why else "")
        + (f", tried again in {up.ready_in_s:.0f} s" if up.ready_in_s else "")
        for gateway, up in at_gateways if up.breaker not in _AT_WORK
    ]  # fmt: skip
    why = "; ".join([met, *breakers])
    if seen is not None and seen.probe.startswith("down"):
        found.fail(f"upstream {name} is {seen.probe}", "start it, or correct its base_url")
    elif seen is not None and seen.health.startswith("down"):
        last = _ago(now_s - seen.last_failure_s) if seen.last_failure_s is not None else ""
        said = "; ".join([f"upstream {name} is {seen.health}, the last {last}", *breakers])
        found.fail(said, _mend_of(seen.last_error))
    elif breakers:
        code = next((up.why for _, up in at_gateways if up.why), "")
        found.fail(f"upstream {name} gets no calls now: {why}", _mend_of(code))
    elif (
        seen is not None
        and seen.failed >= FAILURES_WARN
        and (seen.failed >= FAILURE_SHARE_WARN * (seen.failed + seen.succeeded))
    ):
        found.warn(f"upstream {name}: {why}", _mend_of(seen.last_error))
    if seen is not None and seen.unset_variables:
        unset = "; ".join(
            f"`env:{name}` is not set at {', '.join(at)}"
            for name, at in seen.unset_variables.items()
        )
        say = found.fail if len(seen.unset_variables) >= seen.credentials else found.warn
        say(f"upstream {name}: {unset}", MEND_VARIABLE)
        keys = {number: state for number, state in keys.items() if state != MISSING}
    bad = [f"key {number} {state}" for number, state in keys.items() if state not in _USABLE]
    if bad and len(bad) == len(keys):
        found.fail(f"upstream {name} has no usable key: {', '.join(bad)}", _MEND_KEYS)
    elif bad:
        found.warn(f"upstream {name}: {', '.join(bad)}; the others serve", _MEND_KEYS)
    if len(found) == before:
        zone = seen.zone if seen is not None else "unknown"
        count = len(keys) or (seen.credentials if seen is not None else 0)
        found.ok(f"{name}: zone {zone}, {_counted(count, 'key')}, {met}")


_MEND_KEYS = (
    "`dead`: put a valid key where the reference leads, it is taken up within 2 s; `exhausted`: "
    "pay the vendor's account; `denied`: have the model enabled there; `missing`: set it"
)


def _keys_of(at_gateways: Sequence[tuple[str, UpstreamStatus]]) -> dict[int, str]:
    """The worst that a gateway says of each key."""
    found: dict[int, str] = {}
    for _, upstream in at_gateways:
        for key in upstream.keys:
            if found.get(key.number, "ready") in _USABLE:
                found[key.number] = "missing" if key.state == MISSING else key.state
    return found


def _met(seen: UpstreamSeen, now_s: float) -> str:
    total = seen.succeeded + seen.failed
    if not total:
        return "no recent calls"
    said = f"{seen.succeeded} of the last {_counted(total, 'call')} answered"
    if seen.last_success_s is not None:
        said += f", the last {_ago(now_s - seen.last_success_s)}"
    if seen.last_failure_s is not None:
        said += f"; failed {_ago(now_s - seen.last_failure_s)}: {seen.last_error}"
    return said


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _ago(seconds: float) -> str:
    seconds = max(0.0, seconds)
    return f"{seconds:.0f} s ago" if seconds < 120 else f"{seconds / 60:.0f} min ago"


def _mend_of(code: str) -> str:
    return _MEND_BY_CODE.get(code, f"see `{code}` in docs/reference/errors.md" if code else "")


_MEND_BY_CODE = {
    "upstream_unreachable": "see that it runs, and that this machine reaches its base_url "
    "(DNS, firewall, egress.proxy)",
    "upstream_rejected_credentials": "put a valid key where its credential leads",
    "upstream_out_of_funds": "pay the vendor's account",
    "upstream_access_denied": "have the model enabled in the vendor's account",
    "upstream_model_not_found": "correct `models` of the upstream: the vendor has no such model",
    "upstream_rate_limited": "ask the vendor for more, add a key, or set concurrency_max",
}


def check_keys(platform: Platform, found: Findings) -> None:
    """No API key that may not be used any more is used all the same."""
    by_key: dict[tuple[str, str, str], list[RefusedKey]] = {}
    elsewhere = [one.status for one in platform.elsewhere]
    for status in (*platform.machine.gateways, *elsewhere):
        for key in status.refused_keys:
            by_key.setdefault((key.tenant, key.id, key.why), []).append(key)
    for (tenant, name, why), at_gateways in sorted(by_key.items()):
        refused = sum(key.refused for key in at_gateways)
        last_s = max(key.last_s for key in at_gateways)
        found.warn(
            f"API key {name} of tenant {tenant} is in use and refused: {why}, "
            f"{_counted(refused, 'time')}, the last {_ago(time.time() - last_s)}",
            _MEND_REFUSED.get(why, f"see `{why}` in docs/reference/errors.md"),
        )
    if not found:
        found.ok("none was refused lately")


_MEND_REFUSED = {
    "api_key_revoked": "`tokenschain audit list` says who revoked it; give its application "
    "another key",
    "api_key_expired": "set another `expires_at_s`, or give its application another key: "
    "`tokenschain keys rotate`",
    "account_suspended": "its tenant, account, project or environment is closed; "
    "`tokenschain audit list` says by whom",
    "network_not_allowed": "it is used from outside its `networks`: was it stolen? Else add the "
    "network",
}


def check_records(platform: Platform, found: Findings) -> None:
    """No call record waits that the ledger could not take."""
    if platform.told is None:
        return
    rejected = platform.told.records.rejected
    if rejected:
        found.warn(
            f"{rejected} call records could not be entered into the ledger",
            "tokenschain records list; then retry or discard them",
        )
    else:
        found.ok("all are in the ledger")


def check_processes(platform: Platform, found: Findings) -> None:
    """Gateway, engine and semantic process of this machine answer."""
    settings, told = platform.settings, platform.told
    semantic: Mapping[str, bool] = {} if told is None else told.semantic
    for url, answers in semantic.items():
        if not answers:
            found.fail(
                f"the semantic process at {url} does not answer",
                "start it: `tokenschain semantic`, or `semantic.urls` names another place",
            )
    wanted = {"server.port": bool(platform.machine.gateways)}
    if settings.runs_engine and told is not None:
        wanted |= {"engine.port": True, "engine.embedder_port": True}
    for name, _, port in ports.all_of(settings):
        if wanted.get(name) and port and not ports.is_ours(settings, name):
            found.fail(
                f"nothing of ours answers at {config.variable_of(name)}={port}",
                "the log of `tokenschain up` says what became of it",
            )
    if not found:
        found.ok("answer")


Check = Callable[[Platform, Findings], None]

PLATFORM_CHECKS: dict[str, Check] = {
    "control": check_control,
    "gateways": check_gateways,
    "processes": check_processes,
    "upstreams": check_upstreams,
    "keys": check_keys,
    "records": check_records,
}
"""By name, in the order they are told in."""
