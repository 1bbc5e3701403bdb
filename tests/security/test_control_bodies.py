"""Bodies of the admin API are counted before anything is made of them, for strangers as for all."""

from __future__ import annotations

import itertools
import json
import string
import time
from collections.abc import Iterator

import pytest

from tests.security.platform import Platform, platform
from tokenschain.control.api import context, open_doors
from tokenschain.control.api.errors import _SHOWN_MAX
from tokenschain.core.formats.json_bounds import DOCUMENTS_BOUNDS, LONG_BYTES

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


def _is_open(path: str) -> bool:
    """Whether strangers may ask it: their bodies are read, and bounded."""
    return path.startswith("/api/v1/sessions") or path in open_doors.PATHS


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
            is_open = _is_open(path)
            if headers is HEADERS and len(body) > LONG_BYTES and not is_open:
                assert refused.status_code == 401, "of a stranger it is not even read"
            elif body is FIELDS and path.endswith(("/configuration/apply", "/evaluations")):
                # Documents and draws may have as many names, and nowhere as many fields in one object.
                assert refused.status_code in (400, 401) and len(refused.text) < 1_000
            else:
                assert refused.status_code == 400, (method, path, refused.text)
                assert "The body has more than" in refused.text, (method, path)


def test_a_long_body_is_read_of_who_may_alone(
    over: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    monkeypatch.setattr(context, "count_parts", lambda body, _: read.append(len(body)))
    long = b'{"x":"%b"}' % (b"x" * LONG_BYTES)
    document = over.client.get("/openapi.json", headers=_sign_in(over)).json()["paths"]
    owner = over.person("default", "owner")
    platforms = 0
    read.clear()
    for method, path in _operations(over):
        if _is_open(path):
            continue
        wrong = HEADERS | {"authorization": "Bearer tcs-wrong"}
        for headers in (HEADERS, wrong, HEADERS | {"authorization": "Basic x"}):
            refused = over.client.request(method, path, content=long, headers=headers)
            assert refused.status_code == 401, (method, path, refused.text)
    for path, methods in document.items():
        for method, said in methods.items():
            if "requestBody" in said and said.get("x-permission-extent") == "platform":
                platforms += 1
                for content in (long, iter([long])):
                    own = HEADERS | {"authorization": f"Bearer {owner.token}"}
                    refused = over.client.request(method, path, content=content, headers=own)
                    assert refused.status_code == 403, (method, path, refused.text)
    assert platforms >= 3 and not [size for size in read if size]
    may = HEADERS | {"authorization": f"Bearer {owner.token}"}
    assert over.client.post("/api/v1/keys", content=long, headers=may).status_code == 400
    assert read[-1] == len(long)


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
