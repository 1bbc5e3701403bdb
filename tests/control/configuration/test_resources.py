"""Resources: how they are named."""

from __future__ import annotations

from tokenschain.control.configuration.resources import Kind, Problem


def test_a_problem_names_the_resource_and_whose_it_is() -> None:
    of_tenant = Problem(Kind.VIRTUAL_MODEL, "acme", "faq", "entries[0].model", "no upstream")
    assert str(of_tenant) == "virtual-model faq of tenant acme: no upstream"
    assert str(Problem(Kind.UPSTREAM, "", "a", "", "set base_url")) == "upstream a: set base_url"
