"""Clearance: who may read what calls of a data class said, and whether it is kept as long."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from tokenschain.control.api.context import RequestContext
from tokenschain.control.configuration import store
from tokenschain.control.configuration.changes import Change
from tokenschain.control.configuration.resources import Kind
from tokenschain.core.call_record import CHARACTERS_MAX
from tokenschain.core.snapshot import data_classes
from tokenschain.core.snapshot.data_classes import DataClassRule


def need_cleared(asked: RequestContext, tenant: str, classes: str | None) -> None:
    """Insist on the right for each class of a call whose readers must be cleared.

    Args:
        classes: as the call's record has them; None: there is no record, and it may be any.

    Raises:
        ApiError: `permission_denied`.
    """
    if classes == "":
        return
    rules = store.data_classes(asked.db, (tenant,))
    if classes is None or len(classes) >= CHARACTERS_MAX["data_class"]:  # some may be cut off
        names = tuple({name.rpartition("/")[2] for name in rules})
    else:
        names = data_classes.names_in(classes)
    for grade in sorted(data_classes.grades_to_read(data_classes.rules_of(rules, tenant, names))):
        asked.need_also(f"data:{grade}", tenant)


def keeps_shorter(connection: Connection, wanted: Change) -> bool:
    """Whether a change of a data class has content erased sooner than it would be."""
    if wanted.key.kind is not Kind.DATA_CLASS:
        return False
    found = store.find(connection, wanted.key)
    if found is None or not isinstance(found.spec, DataClassRule):
        return False
    given = wanted.values if isinstance(wanted.values, Mapping) else {}
    days, before = given.get("retention_days_min", 0), found.spec.retention_days_min
    return before > 0 and not (isinstance(days, int | float) and days >= before)
