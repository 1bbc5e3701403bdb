"""Clearance: who may read what calls of a data class said."""

from __future__ import annotations

from tokenschain.control.api.context import RequestContext
from tokenschain.control.configuration import store
from tokenschain.core.snapshot import data_classes


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
    if classes is None:
        names = tuple({name.rpartition("/")[2] for name in rules})
    else:
        names = data_classes.names_in(classes)
    for grade in sorted(data_classes.grades_to_read(data_classes.rules_of(rules, tenant, names))):
        asked.need_also(f"data:{grade}", tenant)
