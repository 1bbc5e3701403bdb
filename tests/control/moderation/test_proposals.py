"""Feedback of reviewers: proposed by one person, accepted by another, drafted into a signed pack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests import moderation_cases
from tests.security.platform import Platform, platform
from tokenschain import cli
from tokenschain.core.moderation.drafts import AcceptedProposal, draft
from tokenschain.core.moderation.packs import Pack, PackWord, read_pack

PATH = "/moderation-proposals"
WORD = {"kind": "word", "word": "黑话词", "risk": "A.1.h", "level": 2}
PHRASE = {"kind": "hard_negative", "word": "洗钱通道", "phrase": "反洗钱通道"}
BASE = Pack("bank", "7", "Li", "Wang", "2999-01-01", (PackWord("洗钱通道", "A.1.h"),))


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("proposals")) as made:
        for tenant in ("alpha", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert made.operator("POST", "/organization/units", body).status_code == 201
        yield made


def test_a_second_person_decides_once_and_another_tenant_sees_nothing(house: Platform) -> None:
    first, second = (house.person("alpha", "reviewer") for _ in range(2))
    case = moderation_cases.enter(house, "alpha")
    made = first("POST", f"/moderation-cases/{case}/proposals", WORD)
    assert made.status_code == 201, made.text
    assert second("POST", f"/moderation-cases/{case}/proposals", WORD).status_code == 409
    path, body = f"{PATH}/{made.json()['id']}/decide", {"accept": True, "reason": "seen often"}
    assert first("POST", path, body).status_code == 409, "another person is to decide"
    stranger = house.person("beta", "owner")
    assert stranger("POST", path, body).status_code == 404
    assert stranger("POST", f"/moderation-cases/{case}/proposals", WORD).status_code == 404
    assert "黑话词" not in stranger("GET", PATH).text
    auditor = house.person("alpha", "auditor")
    assert auditor("GET", PATH).status_code == 403, "words are for reviewers"
    decided = second("POST", path, body).json()
    assert (decided["state"], decided["decided_by"]) == ("accepted", second.id)
    assert second("POST", path, body | {"accept": False}).status_code == 409
    (listed,) = second("GET", f"{PATH}?state=accepted").json()["data"]
    assert (listed["word"], listed["case_id"]) == ("黑话词", case)
    log = house.operator("GET", "/audit?tenant=alpha").json()["data"]
    assert "黑话词" not in json.dumps(log, ensure_ascii=False)


@pytest.mark.parametrize(
    "body",
    [WORD | {"risk": "Z.9.z"}, WORD | {"phrase": "x"}, WORD | {"word": "a\nb"},
     WORD | {"word": "x" * 65}, PHRASE | {"phrase": "别的"}, PHRASE | {"phrase": "洗钱通道"}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(house: Platform, body: dict[str, Any]) -> None:
    case = moderation_cases.enter(house, "alpha")
    reply = house.person("alpha", "reviewer")("POST", f"/moderation-cases/{case}/proposals", body)
    assert reply.status_code == 400, reply.text


def test_a_draft_has_what_was_accepted_and_says_what_has_no_place() -> None:
    accepted = [
        AcceptedProposal("hard_negative", "黑话词", "非黑话词", "A.1.h", 3, "u1", "u2"),
        AcceptedProposal("word", "黑话词", "", "A.2.d", 2, "u1", "u2"),
        AcceptedProposal("word", "洗钱通道", "", "A.2.d", 1, "u1", "u2"),
        AcceptedProposal("hard_negative", "洗钱通道", "反洗钱通道", "A.1.h", 3, "u2", "u1"),
        AcceptedProposal("hard_negative", "没有", "没有的", "A.1.h", 3, "u2", "u1"),
    ]
    made = draft(BASE, accepted * 2)
    assert made.left_out == ["没有的", "没有的"]
    assert {one.text: (one.risk, one.level, one.unless) for one in made.pack.words} == {
        "洗钱通道": ("A.1.h", 3, ("反洗钱通道",)), "黑话词": ("A.2.d", 2, ("非黑话词",)),
    }  # fmt: skip


def test_the_command_writes_a_pack_that_can_be_signed(
    house: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (house.person("beta", "reviewer") for _ in range(2))
    case = moderation_cases.enter(house, "beta")
    for body in (WORD, PHRASE):
        name = first("POST", f"/moderation-cases/{case}/proposals", body).json()["id"]
        decided = {"accept": True, "reason": "seen"}
        assert second("POST", f"{PATH}/{name}/decide", decided).status_code == 200
    rows = second("GET", f"{PATH}?state=accepted").json()["data"]
    monkeypatch.setenv("TOKENSCHAIN_LANG", "en")
    monkeypatch.setattr("tokenschain.cli.moderation.rows_of", lambda *_: rows)
    base, made = tmp_path / "bank.json", tmp_path / "draft.json"
    base.write_bytes(
        json.dumps(
            {"name": "bank", "version": "7", "author": "Li", "reviewer": "Wang",
             "expires": "2999-01-01", "words": [{"text": "洗钱通道", "risk": "A.1.h"}]}
        ).encode()
    )  # fmt: skip
    words = ["moderation", "draft", str(made), "--base", str(base), "--version", "8"]
    ended = CliRunner().invoke(cli.app, words)
    assert ended.exit_code == 0, (ended.output, ended.exception)
    assert "words: 2" in ended.output
    pack = read_pack(made.read_bytes())
    assert pack.version == "8" and pack.words[0].unless == ("反洗钱通道",)
    assert (pack.words[1].author, pack.words[1].reviewer) == (first.id, second.id)
