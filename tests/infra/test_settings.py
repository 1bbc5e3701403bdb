"""Settings: from file and environment; a wrong one is named with its remedy."""

from __future__ import annotations

import ast
import json
import stat
from pathlib import Path

import msgspec
import pytest

from tokenschain.core.snapshot import Routing, Upstream, UpstreamLimits
from tokenschain.core.snapshot.cache_rules import CacheRules
from tokenschain.core.snapshot.routing_policy import Policy
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry, When
from tokenschain.infra import config
from tokenschain.infra.config import SettingsError, declared, groups
from tokenschain.infra.config.renamed import RENAMED
from tokenschain.infra.security import secret_files, secrets


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_environment_beats_the_file_and_sources_are_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokenschain.yaml").write_text("server: {port: 9001, workers: 3}\n")
    monkeypatch.setenv("TOKENSCHAIN_SERVER__PORT", "9002")
    settings = config.load()
    assert (settings.server.port, settings.server.workers, settings.control.port) == (9002, 3, 8001)
    origin = config.sources()
    assert origin["server.port"] == "environment" and origin["control.port"] == "default"
    assert origin["server.workers"].endswith("tokenschain.yaml")


def test_a_flag_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENSCHAIN_SERVER__PORT", "9002")
    assert config.load({"server.port": 9003, "server.workers": None}).server.port == 9003


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("SERVER__PORT", "70000", "server.port = '70000': must be a whole number from 0 to 65535"),
        ("SERVER__PROT", "1", "unknown setting TOKENSCHAIN_SERVER__PROT"),
        ("PORT", "8000", "TOKENSCHAIN_PORT is now TOKENSCHAIN_SERVER__PORT"),
        ("SERVER__TRUSTED_PROXIES", "nonsense", "server.trusted_proxies"),
        ("TLS__KEY_FILE", "/x", "belong together"),
        ("CONFIG", "/does/not/exist", "which is not a file"),
        ("UNPRICED_MODELS", "free", "must be one of `refuse`, `serve`"),
        ("ROUTING", '{"policy": "fastest"}', "no policy `fastest`"),
        ("ROUTING", '{"policy"', "TOKENSCHAIN_ROUTING is not JSON"),
        ("CACHE__WRONG_MAX", "{}", "is now TOKENSCHAIN_CACHE__FALSE_HIT_RATE_MAX"),
        ("SMTP__PASSWORD", "hunter2", "smtp.password = '…'"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(f"TOKENSCHAIN_{name}", value)
    with pytest.raises(SettingsError) as error:
        config.load()
    assert says in str(error.value) and len(str(error.value).splitlines()) == 1
    assert "hunter2" not in str(error.value)


@pytest.mark.parametrize("old", [name for name in RENAMED if "." not in name])
def test_every_old_name_in_the_file_is_refused_with_the_new_one(tmp_path: Path, old: str) -> None:
    (tmp_path / "tokenschain.yaml").write_text(f"{old}: 1\n")
    with pytest.raises(SettingsError) as error:
        config.load()
    assert str(error.value) == f"`{old}` is now `{RENAMED[old]}`"
    assert RENAMED[old] in dict(declared.settings())


def test_all_that_is_wrong_in_a_file_is_said_at_once_each_in_one_line(tmp_path: Path) -> None:
    wrong = {
        "prot": 9001,
        "cache": {"wrong_max": {}, "policies": {}, "false_hit_rate_max": {"*": 1}},
        "routing": {
            "policies": {},
            "own_policies": {},
            "models": {"v": [{"model": "m", "when": {"language": "xx"}}]},
        },
        "upstreams": [
            {"id": "a", "first_byte_max_s": -1, "prices": {"m": {"input": -1, "output": 1}}},
            {"base_url": "ftp://x", "limits": {}},
        ],
    }
    (tmp_path / "tokenschain.yaml").write_text(json.dumps(wrong))
    with pytest.raises(SettingsError) as error:
        config.load()
    lines = str(error.value).splitlines()
    for says in (
        "unknown setting prot",
        "`cache.wrong_max` is now `cache.false_hit_rate_max`",
        "`cache.policies` is now `cache.mode_overrides`",
        "cache.false_hit_rate_max.* = 1: must be a number above 0 and up to 0.2",
        "`routing.policies` is now `routing.policy_overrides`",
        "`routing.own_policies` is now `routing.custom_policies`",
        "routing.models.v[0].when.language = 'xx'",
        "upstreams[0].first_byte_max_s = -1: must be a number above 0",
        "upstreams[0].prices.m = {'input': -1, 'output': 1}: a price must not be negative",
        "upstreams[1].base_url = 'ftp://x'",
        "unknown setting upstreams[1].limits",
        "upstreams[1].id is missing",
    ):
        assert [line for line in lines if says in line], says
    assert len(lines) == 12


def test_an_upstream_of_the_file_is_read_into_what_is_published(tmp_path: Path) -> None:
    entry = {
        "id": "a", "base_url": "http://h/v1", "credential": "env:KEY", "connect_max_s": 2,
        "models": {"mine": "theirs"}, "prices": {"theirs": {"input": "1.5", "output": 2.5}},
    }  # fmt: skip
    (tmp_path / "tokenschain.yaml").write_text(json.dumps({"upstreams": [entry]}))
    (found,) = config.load().upstreams
    assert found.limits == UpstreamLimits(connect_max_s=2.0)
    assert found.credential == ("env:KEY",) and found.models == {"mine": "theirs"}
    assert [str(found.prices["theirs"].input), str(found.prices["theirs"].output)] == ["1.5", "2.5"]


def test_what_is_published_is_declared_nowhere_else() -> None:
    published = (CacheRules, Routing, Upstream, UpstreamLimits, VirtualModelEntry, When, Policy)
    # What belongs to a group of its own and only shares a word with something published.
    shared_words = {"model", "base_url", "connections_max", "idle_max_s", "models"}
    shared_words |= {"memory_bytes_max", "zone"}
    names = {name for struct in published for name in struct.__struct_fields__} - shared_words
    tree = ast.parse(Path(groups.__file__).read_text("utf-8"))
    again = [
        (node.name, line.target.id)
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name != "Settings"
        for line in node.body
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
        if line.target.id in names
    ]
    assert not again


def test_every_setting_has_a_sentence_of_purpose() -> None:
    structs = [groups.Settings, groups.UpstreamSettings, groups.PriceSettings, groups.JudgeSettings]
    structs += [
        groups.EmbedderSettings,
        groups.CacheSettings,
        Routing,
        VirtualModelEntry,
        When,
        Policy,
    ]
    found = dict(declared.settings())
    for struct in structs:
        found |= {f"{struct.__name__}.{n}": d for n, d in declared.fields_of(struct).items()}
    for name, declaration in found.items():
        group = isinstance(declaration.default, msgspec.Struct)
        text = declaration.description
        assert group or (len(text.split()) >= 4 and text.endswith(".")), (name, text)


def test_secrets_are_made_once_and_only_their_owner_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "one"
    (made,) = secret_files.read_or_make(path)
    assert secret_files.read_or_make(path) == (made,) and len(made) >= 43
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_secret_references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "s3cret")
    (tmp_path / "key").write_text(" filed \n")
    (tmp_path / "key").chmod(0o600)
    assert secrets.resolve("env:SOME_KEY") == "s3cret"
    assert secrets.resolve(f"file:{tmp_path}/key") == "filed"
    for missing in ("env:NOT_THERE", "file:/not/there", "vault:x"):
        with pytest.raises(secrets.SecretMissing):
            secrets.resolve(missing)


TWO = """
upstreams:
- {id: a, base_url: "http://one/v1"}
- {id: a, base_url: "http://two/v1"}
"""


def test_two_upstreams_of_one_id_are_refused(tmp_path: Path) -> None:
    """One's models would be sent to the other's address, with the other's key."""
    (tmp_path / "tokenschain.yaml").write_text(TWO)
    with pytest.raises(SettingsError, match=r"upstreams\[1\].id = 'a': upstreams\[0\] has this id"):
        config.load()
    (tmp_path / "tokenschain.yaml").write_text(TWO.replace("id: a", "id: engine", 1))
    with pytest.raises(SettingsError, match="the embedded engine has this id"):
        config.load()


def test_a_custom_upstream_needs_a_zone_where_there_is_a_residency_rule(tmp_path: Path) -> None:
    one = 'upstreams:\n- {id: a, base_url: "http://one/v1"%s}\n'
    rule = 'routing: {residency: {"*": [cn, own]}}\n'
    file = tmp_path / "tokenschain.yaml"
    file.write_text(one % "" + rule)
    with pytest.raises(SettingsError, match=r"upstreams\[0\].zone is missing"):
        config.load()
    for text in (one % "", one % ", zone: own" + rule):
        file.write_text(text)
        assert config.load().upstreams[0].id == "a"
