"""Erasure of content: keys are destroyed and rows deleted, and a record of it goes into the audit
log. The log's own records stay as they are: they hold commitments, and prove as before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from tokenschain.control.audit import admin_log
from tokenschain.control.audit.admin_log import Author
from tokenschain.control.content import content_policies, key_hierarchy, legal_holds
from tokenschain.core.snapshot import data_classes
from tokenschain.infra.database import held_calls, paging
from tokenschain.infra.database.content_tables import (
    call_contents,
    content_erasures,
    content_keys,
    tenant_keys,
)
from tokenschain.infra.database.engine import DAY_MS, reading
from tokenschain.infra.database.moderation_tables import moderation_cases
from tokenschain.infra.database.paging import Page, Rows
from tokenschain.infra.database.tables import stored_responses
from tokenschain.infra.security import secrets

ACTION = "content:erase"
_CHECKPOINT_TRIES, _CHECKPOINT_WAIT_S = 50, 0.1


class Selection(NamedTuple):
    """Which content is erased."""

    tenant: str
    subjects: Sequence[str] | None
    """Hashes of one end user, at least one; None: all of the tenant's."""
    before_ms: int
    """Of calls that began before."""
    whole_tenant: bool = False
    """Whether the tenant's own key goes, too."""
    project: str | None = None
    data_class: str | None = None
    """The classes of calls, as their records have them; None: of any."""


class Erased(NamedTuple):
    """What an erasure did, or would do."""

    id: str
    """Empty: nothing was done."""
    contents: int
    held: int
    """Kept by legal holds."""
    keys: list[str]
    """Destroyed."""


def preview(connection: Connection, wanted: Selection) -> Erased:
    """What an erasure would do, and does not."""
    chosen, held = _conditions(connection, wanted)
    count = select(func.count()).select_from(call_contents)
    return Erased(
        "",
        int(connection.execute(count.where(*chosen, ~held)).scalar_one()),
        int(connection.execute(count.where(*chosen, held)).scalar_one()),
        [],
    )


def erase(
    connection: Connection, wanted: Selection, reason: str, author: Author, now_ms: int
) -> Erased:
    """Destroy what is chosen and not held, and write down that it was.

    Keys that nothing is sealed with any more are destroyed; so are what reviewers had of the calls
    and what callers had stored of them.
    """
    _overwrite_freed_space(connection)
    chosen, held = _conditions(connection, wanted)
    count = select(func.count()).select_from(call_contents)
    kept = int(connection.execute(count.where(*chosen, held)).scalar_one())
    c = call_contents.c
    rows = connection.execute(select(c.call_id, c.key_id).where(*chosen, ~held)).all()
    calls = [row.call_id for row in rows]
    for some in key_hierarchy.batches(calls):
        connection.execute(delete(call_contents).where(c.call_id.in_(some)))
        _forget_elsewhere(connection, some)
    gone = key_hierarchy.destroy(
        connection, _unused_keys(connection, sorted({row.key_id for row in rows})), now_ms
    )
    gone += key_hierarchy.destroy(connection, _unused_days(connection, wanted), now_ms)
    if wanted.whole_tenant:
        _forget_tenant_elsewhere(connection, wanted.tenant)
    if wanted.whole_tenant and wanted.tenant not in legal_holds.tenants_held(connection):
        t = tenant_keys.c
        whole = select(t.id).where(t.tenant == wanted.tenant, t.destroyed_at_ms.is_(None))
        gone += key_hierarchy.destroy(connection, connection.execute(whole).scalars(), now_ms)
    done = Erased(secrets.new_id("ers"), len(calls), kept, sorted(set(gone)))
    subject = "" if wanted.subjects is None else wanted.subjects[0]
    connection.execute(
        insert(content_erasures).values(
            id=done.id, tenant=wanted.tenant, subject=subject, before_ms=wanted.before_ms,
            reason=reason, erased_by=author.id, erased_at_ms=now_ms, contents=done.contents,
            held=done.held, keys=msgspec.json.encode(done.keys).decode(),
        )
    )  # fmt: skip
    detail = {
        "subject": subject, "before_ms": wanted.before_ms, "reason": reason,
        "contents": done.contents, "held": done.held, "keys": done.keys,
    }  # fmt: skip
    admin_log.note(connection, author, ACTION, wanted.tenant, done.id, detail)
    return done


def _conditions(connection: Connection, wanted: Selection) -> tuple[list[Any], Any]:
    c = call_contents.c
    chosen: list[Any] = [c.tenant == wanted.tenant, c.started_ms < wanted.before_ms]
    if wanted.subjects is not None:
        chosen.append(c.subject.in_(wanted.subjects))
    if wanted.project is not None:
        chosen.append(c.project == wanted.project)
    if wanted.data_class is not None:
        chosen.append(c.data_class == wanted.data_class)
    return chosen, legal_holds.is_held(connection, [wanted.tenant])


def _forget_tenant_elsewhere(connection: Connection, tenant: str) -> None:
    """Texts of a tenant's calls that stand elsewhere, but for those that legal holds keep. Of
    stored responses it is not known when their calls were: a hold of any time keeps them all."""
    c, r = moderation_cases.c, stored_responses.c
    held = held_calls.is_call_held(c.tenant, c.started_ms, c.event_id)
    texts = update(moderation_cases).where(c.tenant == tenant, ~held)
    connection.execute(texts.values(sealed=b""))
    if tenant not in legal_holds.tenants_held(connection):
        connection.execute(delete(stored_responses).where(r.tenant == tenant))


def _forget_elsewhere(connection: Connection, calls: Sequence[str]) -> None:
    """Texts of the same calls that stand elsewhere."""
    of_cases = moderation_cases.c.event_id.in_(calls)
    connection.execute(update(moderation_cases).where(of_cases).values(sealed=b""))
    names = [f"resp_{name}" for name in calls]
    connection.execute(delete(stored_responses).where(stored_responses.c.id.in_(names)))


def _unused_keys(connection: Connection, key_ids: Sequence[str]) -> list[str]:
    """Those that seal nothing any more. A day's key that others hang on stays."""
    found: list[str] = []
    c = content_keys.c
    below = content_keys.alias()
    for some in key_hierarchy.batches(key_ids):
        used = select(call_contents.c.key_id).where(call_contents.c.key_id == c.id)
        parents = select(below.c.id).where(
            below.c.parent == c.id, below.c.destroyed_at_ms.is_(None)
        )
        found += connection.execute(
            select(c.id).where(c.id.in_(some), ~used.exists(), ~parents.exists())
        ).scalars()
    return found


def _unused_days(connection: Connection, wanted: Selection) -> list[str]:
    """Keys of days that lie before and below which nothing is left."""
    c = content_keys.c
    query = select(c.id).where(
        c.tenant == wanted.tenant, c.subject == "", c.destroyed_at_ms.is_(None),
        c.day < wanted.before_ms // DAY_MS,
    )  # fmt: skip
    return _unused_keys(connection, list(connection.execute(query).scalars()))


def is_erased(connection: Connection, tenant: str, subject: str, started_ms: int) -> bool:
    """Whether content that arrives now was erased before it came."""
    c = content_erasures.c
    query = select(c.id).where(
        c.tenant == tenant, c.subject.in_({"", subject}), c.before_ms > started_ms,
        c.erased_by != admin_log.SYSTEM.id,
    )  # fmt: skip
    return connection.execute(query.limit(1)).first() is not None


def page(connection: Connection, page_: Page, tenant: str | None) -> Rows:
    """One page of erasures, the latest first."""
    order = (content_erasures.c.erased_at_ms, content_erasures.c.id)
    found = paging.read_page(
        connection, select(content_erasures), page_, order, newest=True, tenant=tenant
    )
    return found._replace(
        rows=[row | {"keys": msgspec.json.decode(row["keys"])} for row in found.rows]
    )


# --- what is due -----------------------------------------------------------------------------


def erase_due(
    engine: Engine,
    now_ms: int,
    note: Callable[[Sequence[str]], None],
    rules_of: content_policies.ReadRules = content_policies.no_rules,
) -> int:
    """Erase what is older than its retention class; returns how many contents.

    Args:
        note: told the ids of destroyed keys before they are gone for good.
        rules_of: what is said of data classes: some are kept longer.
    """
    count = 0
    with engine.connect() as connection:
        given = content_policies.in_force(connection)
        c = call_contents.c
        place = (c.tenant, c.project, c.data_class)
        oldest = select(*place, func.min(c.started_ms).label("began_ms")).group_by(*place)
        found = connection.execute(oldest).all()
        rules = rules_of(connection, {"", *(row.tenant for row in found)})
    for row in found:
        days = content_policies.days_for(given, row.tenant, row.project)
        if days:
            names = data_classes.names_in(row.data_class)
            of_classes = data_classes.rules_of(rules, row.tenant, names)
            days = max(days, data_classes.retention_days_min(of_classes))
        # Whole days: a day's key is for all of them.
        before_ms = (now_ms // DAY_MS - days) * DAY_MS
        if not days or row.began_ms >= before_ms:
            continue
        wanted = Selection(
            row.tenant, None, before_ms, project=row.project, data_class=row.data_class
        )
        with engine.connect() as connection:
            if not preview(connection, wanted).contents:
                continue  # all of it is held
        with engine.begin() as connection:
            why = f"retention class {content_policies.class_of(days)}"
            done = erase(connection, wanted, why, admin_log.SYSTEM, now_ms)
            note(done.keys)
        count += done.contents
    if count:
        clean(engine)
    return count


# --- traces ----------------------------------------------------------------------------------


def _overwrite_freed_space(connection: Connection) -> None:
    """On SQLite, what is deleted is overwritten with zeros instead of left in free pages."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")


def clean(engine: Engine) -> None:
    """After the erasure is committed: take what it left in the log of changes and in dead rows."""
    # Neither statement may stand in a transaction.
    if engine.dialect.name == "sqlite":
        raw = engine.raw_connection()
        try:
            for _ in range(_CHECKPOINT_TRIES):
                busy, _, _ = raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                if not busy:
                    return
                time.sleep(_CHECKPOINT_WAIT_S)  # somebody reads what was there before
        finally:
            raw.close()
    else:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for table in (tenant_keys, content_keys, call_contents, moderation_cases):
                connection.exec_driver_sql(f"VACUUM {table.name}")


class DestroyedKeys:
    """Ids of destroyed keys in a file beside the database, which a restored backup does not bring
    back: what is in it is destroyed again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, key_ids: Sequence[str]) -> None:
        """Write them down; before the transaction that destroys them is over."""
        if not key_ids:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, "".join(f"{name}\n" for name in key_ids).encode())
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self) -> list[str]:
        """All of them."""
        try:
            return self._path.read_text("utf-8").split()
        except FileNotFoundError:
            return []

    def destroy_again(self, engine: Engine, now_ms: int) -> list[str]:
        """Destroy those that are there again; returns them."""
        with reading(engine) as connection:  # there is seldom one, and others write
            again = key_hierarchy.living(connection, self.read())
        if not again:
            return []
        with engine.begin() as connection:
            _overwrite_freed_space(connection)
            gone = key_hierarchy.destroy(connection, again, now_ms)
            if gone:
                c = call_contents.c
                live = select(content_keys.c.id).where(content_keys.c.destroyed_at_ms.is_(None))
                connection.execute(delete(call_contents).where(c.key_id.not_in(live)))
                detail = {"keys": gone, "reason": "destroyed before; back from a backup"}
                admin_log.note(connection, admin_log.SYSTEM, ACTION, "", "", detail)
        if gone:
            clean(engine)
        return gone
