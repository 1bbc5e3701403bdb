"""Bodies of the admin API are counted before anything is made of them, for strangers as for all."""

from __future__ import annotations

import itertools
import json
import string
import time
from collections.abc import Iterator

import pytest

from tests.security.platform import Platform, platform
from tokenschain.control.api.errors import _SHOWN_MAX
from tokenschain.core.formats.json_bounds import DOCUMENTS_BOUNDS

NAMES = ["".join(letters) for letters in itertools.product(string.ascii_letters, repeat=3)]
FIELDS = json.dumps(dict.fromkeys(NAMES[:130_000], 0), separators=(",", ":")).encode()
HEADERS = {"content-type": "application/json"}
SLOWER_MAX = 10
"""By how much a refusal may take longer than to decode the body."""


@pytest.fixture(scope="module")
def over(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("bodies")) as made:
        yield made


def _sign_in(over: Platform) -> dict[str, str]:
    return {"authorization": f"Bearer {over.operator.token}"}


def _operations(over: Platform) -> Iterator[tuple[str, str]]:
    document = over.client.get("/openapi.json", headers=_sign_in(over)).json()
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            if "requestBody" in said:
                yield method.upper(), path.replace("{", "").replace("}", "")


def test_no_operation_decodes_a_body_of_too_many_parts(over: Platform) -> None:
    many = (FIELDS, b"[" * 60_000, b'{"documents":[' + b"{}," * 60_000 + b"{}]}")
    operations = list(_operations(over))
    assert len(operations) > 20
    for method, path in operations:
        for body, headers in itertools.product(many, (HEADERS, HEADERS | _sign_in(over))):
            refused = over.client.request(method, path, content=body, headers=headers)
            if body is FIELDS and path.endswith("/configuration/apply"):
                # Documents may have as many names, and nowhere as many fields in one object.
                assert refused.status_code in (400, 401) and len(refused.text) < 1_000
            else:
                assert refused.status_code == 400, (method, path, refused.text)
                assert "The body has more than" in refused.text, (method, path)


def test_a_refusal_takes_no_longer_than_to_read_the_body(over: Platform) -> None:
    began = time.process_time()
    json.loads(FIELDS)
    decoding_s = time.process_time() - began

    def refusal_s() -> float:
        began = time.process_time()
        over.client.post("/api/v1/sessions", content=FIELDS, headers=HEADERS)
        return time.process_time() - began

    assert min(refusal_s() for _ in range(3)) < SLOWER_MAX * decoding_s


def test_of_many_mistakes_few_are_made_into_texts(over: Platform) -> None:
    unknown = dict.fromkeys(NAMES[:3_000], 0)
    for path, body in (("/keys", unknown), ("/users", {"email": unknown, **unknown})):
        said = over.operator("POST", path, body).json()["error"]["message"]
        assert "3000 fields" in said or "3001 fields" in said
    wrong: list[object] = [{"x": 1}] * (DOCUMENTS_BOUNDS.objects // 10)
    for body in ({"documents": wrong}, {"documents": wrong, **unknown}):
        said = over.operator("POST", "/configuration/apply", body).json()["error"]["message"]
        assert said.count("\n") < _SHOWN_MAX


def test_a_few_unknown_fields_are_each_said(over: Platform) -> None:
    said = over.operator("POST", "/keys", {"name": "x", "nmae": 1, "tennant": 2}).json()
    assert "nmae" in said["error"]["message"] and "tennant" in said["error"]["message"]
