"""Configuration as documents from the shell: apply, diff, export, roll back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from tests.cli.shell import Shell, shell
from tests.stack import Stack
from tokenschain.cli.configuration import documents

WRITER = {"kind": "virtual-model", "name": "writer", "spec": {"entries": [{"model": "sim-chat"}]}}


@pytest.fixture
def run(
    own_stack: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Iterator[Shell]:  # fmt: skip
    stack: Stack = own_stack().start("control")
    folder = tmp_path / "shell"
    folder.mkdir()
    monkeypatch.chdir(folder)
    with shell(
        monkeypatch, capsys,
        TOKENSCHAIN_CONTROL__URL=f"http://127.0.0.1:{stack.control_port}",
        TOKENSCHAIN_ADMIN_TOKEN=stack.admin_token,
    ) as made:  # fmt: skip
        yield made


def test_documents_are_applied_once_shown_exported_and_rolled_back(run: Shell) -> None:
    Path("here").mkdir()
    Path("here/writer.yaml").write_text(yaml.safe_dump(WRITER))
    would = run("diff", "-f", "here")
    assert would.code == 0 and "+ virtual-model writer" in would.out, would
    assert "dry run" in would.err
    assert "writer" not in run("virtual-models", "list").out
    done = run("apply", "-f", "here", "--reason", "a writer")
    assert done.code == 0 and "+ virtual-model writer" in done.out, done
    assert "nothing differs" in run("apply", "-f", "here").err
    (row,) = [row for row in run("virtual-models", "list").rows if row["name"] == "writer"]
    assert row["managed_by"] == "api"
    exported = run("export").out
    assert WRITER in list(yaml.safe_load_all(exported))
    assert "nothing differs" in run("diff", "-f", "-", given=yaml.safe_dump(WRITER)).err
    latest = run("revisions", "list", "--limit", "1").rows[0]
    assert latest["reason"] == "a writer" and latest["resources"] == "virtual-model writer"
    assert "a writer" in run("revisions", "show", latest["revision"]).out
    undone = run("revisions", "rollback", latest["revision"])
    assert undone.code == 0 and "- virtual-model writer" in undone.out
    assert run("virtual-models", "show", "writer").code == 1


def test_what_is_wrong_is_told_and_changes_nothing(run: Shell) -> None:
    bad = {"kind": "virtual-model", "name": "w", "spec": {"entries": [{"model": "sim-chaat"}]}}
    refused = run("apply", "-f", "-", given=yaml.safe_dump(bad))
    assert refused.code == 1 and "sim-chat" in refused.err, refused
    odd = run("apply", "-f", "-", given="kind: nonsense\nname: x\n")
    assert odd.code == 1 and "virtual-model" in odd.err, odd
    assert run("apply", "-f", "/nowhere").code == 2
    assert run("apply", "-f", "-", given="spec: {}\n").code == 2


def test_every_mistake_names_its_file_and_document(run: Shell, tmp_path: Path) -> None:
    """With what the settings file manages, and of a document that is none, in one pass."""
    wrong = {"kind": "virtual-model", "name": "w", "spec": {"entries": [{"model": "sim-chaat"}]}}
    managed = {"kind": "upstream", "name": "sim", "spec": {"provider": "deepseek"}}
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump_all([wrong, managed]))
    said = run("apply", "-f", str(file)).err.splitlines()
    assert len(said) == 2, said
    assert f"{file} document 2: upstream sim: it is managed by the settings file" in said[0]
    assert "tokenschain.yaml of control, under `upstreams`" in said[0]
    assert f"{file} document 1: virtual-model w: no upstream serves the model" in said[1]
    file.write_text(yaml.safe_dump_all([wrong, wrong | {"kind": "x"}, wrong | {"kind": "y"}]))
    said = run("apply", "-f", str(file)).err.splitlines()
    assert len(said) == 2, said
    assert f"{file} document 2: Invalid value for `kind`" in said[0]
    assert f"{file} document 3: Invalid value for `kind`" in said[1]


def test_a_vendors_key_is_no_argument_and_shown_nowhere(run: Shell) -> None:
    done = run("upstream-credentials", "set", "bailian-1", given="sk-of-the-vendor\n")
    assert done.code == 0, done
    shown = run("upstream-credentials", "show", "bailian-1", "-o", "json")
    assert "sk-of-the-vendor" not in done.out + done.err + shown.out + run("export").out
    assert json.loads(shown.out)["name"] == "bailian-1"
    preview = run("upstream-credentials", "remove", "bailian-1", "--dry-run")
    assert "- credential bailian-1" in preview.out and "dry run" in preview.err


def test_folders_are_read_whole_and_mistakes_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "b.yaml").write_text(
        "kind: model\nname: b\n---\n# nothing\n---\nkind: model\nname: c\n"
    )
    (tmp_path / "deep" / "a.json").write_text('{"kind": "model", "name": "a"}')
    (tmp_path / "notes.txt").write_text("no document")
    found = documents([tmp_path])
    assert [one.values["name"] for one in found] == ["b", "c", "a"]
    deep = str(tmp_path / "deep" / "a.json")
    assert [one.place.removeprefix(f"{tmp_path}/") for one in found] == [
        "b.yaml document 1", "b.yaml document 3", deep.removeprefix(f"{tmp_path}/"),
    ]  # fmt: skip
    for text in ("kind: [\n", "- 1\n", "kind: model\n"):
        (tmp_path / "wrong.yaml").write_text(text)
        with pytest.raises(typer.BadParameter, match=r"wrong\.yaml"):
            documents([tmp_path / "wrong.yaml"])
