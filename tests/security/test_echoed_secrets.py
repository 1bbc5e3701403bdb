"""Secrets that are given in a wrong form, or in a wrong place: the refusal does not repeat them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args

import pytest
from fastapi.routing import APIRoute

from tests.security.platform import Platform, platform
from tokenschain.control.api import app as app_module
from tokenschain.control.api.bodies import RequestBody
from tokenschain.control.configuration import kinds
from tokenschain.control.configuration.resources import Kind, ResourceKey
from tokenschain.infra.config import declared, validation
from tokenschain.infra.config.groups import Settings

CANARY = "CANARY"
WRONG: tuple[Any, ...] = (
    f"my {CANARY} with spaces", f"postgresql://u:{CANARY}/more@host name/x", f"{CANARY}\n",
    "x" * 20 + CANARY + "x" * 20_000, [f"my {CANARY}"], {"it is": f"my {CANARY}"}, [[CANARY]],
)  # fmt: skip
"""Secrets of no form that their fields take."""
NUMBERS = re.compile(r"^password(_|s_).*(min|max|remembered)$")
"""What is asked of passwords."""
NAMED = re.compile(r"secret|password|credential|(^|_)(code|old|new|value|fingerprint)$|^address$")
"""Fields that somebody writes a secret into."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("echoes")) as made:
        unit = {"kind": "tenant", "tenant": "acme", "name": "acme"}
        assert made.operator("POST", "/organization/units", unit).status_code == 201
        yield made


def fields(hint: Any, path: str = "") -> Iterator[tuple[str, str, Any]]:
    """The fields below a type: path, name and type of each."""
    struct = declared.struct_of(hint)
    if struct is not None:
        for name, found in declared.fields_of(struct).items():
            yield f"{path}.{name}".lstrip("."), name, found.hint
            yield from fields(found.hint, f"{path}.{name}")
    else:
        for part in get_args(declared.bare_of(hint)):
            yield from fields(part, path)


STRUCTS = [Settings, *kinds._OF_PLATFORM.values(), *kinds._OF_TENANT.values()]


def test_every_field_that_takes_a_secret_says_so() -> None:
    found = {
        (struct.__name__, path): declared.holds_secret(hint)
        for struct in STRUCTS
        for path, name, hint in fields(struct)
        if NAMED.search(name)
        and not name.endswith("_file")
        and not declared.struct_of(hint)
        and not NUMBERS.match(name)
    }
    assert len(found) >= 7 and all(found.values()), [one for one, said in found.items() if not said]
    urls = dict((path, hint) for path, _, hint in fields(Settings) if path.endswith("s.url"))
    assert declared.holds_secret(urls["redis.url"])


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_in_a_field_of_a_secret_is_not_repeated(wrong: Any) -> None:
    found = 0
    for struct in STRUCTS:
        for path, _, hint in fields(struct):
            if declared.holds_secret(hint):
                said = [str(one) for one in validation._wrong(hint, wrong, path)]
                assert CANARY not in "".join(said), (struct.__name__, path)
                found += bool(said)
    assert found >= 4


def test_a_group_that_refuses_itself_repeats_no_secret_of_it() -> None:
    group = {"credential": "my own", "provider": "custom", "base_url": "https://a.example"}
    assert "my own" not in validation._repeated(kinds.UpstreamSpec, group)
    assert "https://a.example" in validation._repeated(kinds.UpstreamSpec, group)
    assert CANARY not in validation._repeated(kinds.CredentialSpec, f"my {CANARY}")


@pytest.mark.parametrize("wrong", WRONG)
def test_the_api_repeats_no_credential_of_a_wrong_form(house: Platform, wrong: Any) -> None:
    owner = house.person("acme", "owner")
    for spec in ({"value": wrong}, {"fingerprint": wrong}, {"valeu": wrong}, wrong):
        document = {"kind": "credential", "name": "k", "tenant": "acme", "spec": spec}
        replies = [
            owner("PUT", "/credentials/k?tenant=acme", {"spec": spec}),
            owner("POST", "/configuration/apply", {"documents": [document]}),
        ]
        for reply in replies:
            assert reply.status_code in (200, 400), reply.text
            assert reply.status_code == 200 or CANARY not in reply.text, reply.text
    key = ResourceKey(Kind.CREDENTIAL, "acme", "k")
    assert CANARY not in str(kinds.read(key, {"value": wrong})[1])


def test_no_body_with_a_secret_of_a_wrong_form_is_repeated(house: Platform) -> None:
    asked = 0
    for subject in app_module.ADMIN_SUBJECTS:
        for route in subject.router.routes:
            assert isinstance(route, APIRoute)
            for body in route.dependant.body_params:
                annotation = body.field_info.annotation
                kind = next(iter(get_args(annotation)), annotation)
                assert isinstance(kind, type) and issubclass(kind, RequestBody)
                path = re.sub(r"\{[^}]+\}", "x", route.path.removeprefix("/api/v1"))
                for name in filter(NAMED.search, kind.model_fields):
                    for wrong in WRONG:
                        reply = house.operator(
                            min(route.methods), path, dict(kind.example) | {name: wrong}
                        )
                        assert CANARY not in reply.text, (path, name, reply.text)
                        asked += 1
    assert asked > 50
