"""Resources: how they are named."""

from __future__ import annotations

from sqlalchemy import String

from tokenschain.control.configuration.resources import Kind, Problem
from tokenschain.infra.database.tables import resources


def test_a_problem_names_the_resource_and_whose_it_is() -> None:
    of_tenant = Problem(Kind.VIRTUAL_MODEL, "acme", "faq", "entries[0].model", "no upstream")
    assert str(of_tenant) == "virtual-model faq of tenant acme: no upstream"
    assert str(Problem(Kind.UPSTREAM, "", "a", "", "set base_url")) == "upstream a: set base_url"


def test_the_database_has_room_for_the_name_of_each_kind() -> None:
    """PostgreSQL refuses what SQLite takes."""
    kind = resources.c.kind.type
    assert isinstance(kind, String) and kind.length is not None
    assert max(map(len, Kind)) <= kind.length
