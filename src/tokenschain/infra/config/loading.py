"""Loads the settings: a YAML file, overridden by environment variables, overridden by flags."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec
import yaml

from tokenschain.core.snapshot.routing_policy import POLICIES
from tokenschain.core.snapshot.zones import NONE, ZONES
from tokenschain.infra.config import declared, validation
from tokenschain.infra.config.groups import Settings
from tokenschain.infra.config.renamed import RENAMED
from tokenschain.infra.config.validation import Values, Wrong, WrongBy

ENV_PREFIX = "TOKENSCHAIN_"
ADMIN_TOKEN_VARIABLE = "TOKENSCHAIN_ADMIN_TOKEN"  # noqa: S105
LANGUAGE_VARIABLE = "TOKENSCHAIN_LANG"
"""Of what commands say: `zh` or `en`."""
DEFAULT_FILE = "tokenschain.yaml"
_REFERENCE = "see docs/reference/settings.md for names"


class SettingsError(Exception):
    """A wrong setting: names it, its value and what to do."""


def variable_of(name: str) -> str:
    """The environment variable of a setting: `server.port` is TOKENSCHAIN_SERVER__PORT."""
    return f"{ENV_PREFIX}{name.upper().replace('.', '__')}"


def config_file() -> Path | None:
    """The settings file in force, if there is one.

    Raises:
        SettingsError: the named file does not exist.
    """
    named = os.environ.get(f"{ENV_PREFIX}CONFIG")
    if named:
        path = Path(named)
        if not path.is_file():
            raise SettingsError(f"{ENV_PREFIX}CONFIG names {named}, which is not a file")
        return path
    path = Path(DEFAULT_FILE)
    return path if path.is_file() else None


def load(flags: Mapping[str, object] | None = None) -> Settings:
    """The settings in force.

    Args:
        flags: values by their names with dots, as `server.port`; None where not given.

    Raises:
        SettingsError: naming each wrong setting, its value and the remedy.
    """
    values = _file_values()
    for name, value in _environment():
        _put(values, name, value)
    for name, value in (flags or {}).items():
        if value is not None:
            _put(values, name, value)
    wrongs = [
        *validation.unusable(values, ""),
        *validation.raw_secrets(values, "", _holds_password),
        *validation.wrongs(Settings, values, ""),
    ]
    if wrongs:
        raise SettingsError("\n".join(dict.fromkeys(map(_said, wrongs))))
    settings: Settings = validation.converted(Settings, values)
    problems = list(_contradictions(settings))
    if problems:
        raise SettingsError("\n".join(problems))
    folder = settings.data_dir.expanduser().absolute()
    return msgspec.structs.replace(settings, data_dir=folder)


def sources() -> dict[str, str]:
    """Where each setting's value comes from: environment, file or default."""
    path = config_file()
    values = _file_values()
    given = [name for name, _ in _environment()]
    found = {}
    for name, _ in declared.settings():
        if any(one == name or one.startswith(f"{name}.") for one in given):
            found[name] = "environment"
        else:
            found[name] = str(path) if _has(values, name) else "default"
    return found


def _file_values() -> Values:
    path = config_file()
    if path is None:
        return {}
    try:
        text = path.read_text(encoding="utf-8")
        values = yaml.safe_load(text) or {}
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingsError(f"{path} line {line}: not UTF-8; save the file as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        raise SettingsError(_misspelt(path, text, error)) from None
    except yaml.YAMLError as error:
        # The line itself may hold a secret: where it is says enough.
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        what = getattr(error, "problem", None) or "cannot be read"
        raise SettingsError(
            f"{path}: is no YAML{where}: {validation.without_secrets(what)}"
        ) from None
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: must hold `name: value` lines")
    return values


def _misspelt(path: Path, text: str, error: yaml.MarkedYAMLError) -> str:
    """Where a file is no YAML, and why."""
    mark = error.problem_mark or error.context_mark
    number = mark.line if mark is not None else 0
    lines = [*text.splitlines(), ""]
    line = lines[min(number, len(lines) - 1)]
    if "\t" in line[: len(line) - len(line.lstrip())]:
        return f"{path} line {number + 1}: a tab; indent with spaces"
    why = ", ".join(part for part in (error.context, error.problem) if part)
    column = mark.column + 1 if mark is not None else 1
    return f"{path} line {number + 1}, column {column}: {why}"


def _environment() -> Iterator[tuple[str, object]]:
    """Settings that the environment gives, by their names with dots."""
    for variable in sorted(os.environ):
        if not variable.startswith(ENV_PREFIX):
            continue
        if variable in (f"{ENV_PREFIX}CONFIG", ADMIN_TOKEN_VARIABLE, LANGUAGE_VARIABLE):
            continue
        name = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
        hint = _hint_of(name)
        if hint is None:
            new = RENAMED.get(name)
            raise SettingsError(
                f"{variable} is now {variable_of(new)}"
                if new is not None
                else f"unknown setting {variable}: unset it, or {_REFERENCE}"
            )
        yield name, _parsed(name, os.environ[variable], hint)


def _hint_of(name: str) -> Any:
    """The type of a setting; None when there is no such setting."""
    found = _declared(name)
    return None if found is None else found.hint


def _declared(name: str) -> declared.Declared | None:
    """A setting as it is declared; None when there is no such setting."""
    struct: type | None = Settings
    found: declared.Declared | None = None
    for part in name.split("."):
        if struct is None:
            return None
        found = declared.fields_of(struct).get(part)
        if found is None:
            return None
        struct = declared.struct_of(found.hint)
    return found


def _parsed(name: str, text: str, hint: Any) -> object:
    """A variable's value: JSON for groups, mappings and lists; else its text."""
    bare = declared.bare_of(hint)
    if bare in (str, Path):
        return text
    if text.lstrip()[:1] in ("{", "["):
        try:
            return msgspec.json.decode(text)
        except msgspec.DecodeError as error:
            raise SettingsError(f"{variable_of(name)} is not JSON: {error}") from None
    if get_origin(bare) is tuple and declared.struct_of(get_args(bare)[0]) is not None:
        raise SettingsError(f"{variable_of(name)} must be JSON: a list of objects, as [{{...}}]")
    if get_origin(bare) is dict or declared.struct_of(bare) is not None:
        raise SettingsError(f"{variable_of(name)} must be JSON: an object, as {{...}}")
    return text


def _put(values: Values, name: str, value: object) -> None:
    *groups, last = name.split(".")
    for group in groups:
        inner = values.get(group)
        values[group] = inner = dict(inner) if isinstance(inner, dict) else {}
        values = inner
    values[last] = value


def _has(values: object, name: str) -> bool:
    for part in name.split("."):
        if not isinstance(values, dict) or part not in values:
            return False
        values = values[part]
    return True


def _said(wrong: Wrong) -> str:
    """What is wrong with a setting, and the remedy."""
    path = wrong.path
    match wrong.fault:
        case WrongBy.RENAMED:
            return f"`{path}` is now {wrong.why}"
        case WrongBy.UNKNOWN:
            return f"unknown setting {path}: {wrong.why or f'remove it, or {_REFERENCE}'}"
        case WrongBy.MISSING:
            return f"setting {path} is missing: {wrong.why}"
        case WrongBy.SECRET:
            return f"setting {path} {wrong.why}"
        case WrongBy.NO_GROUP:
            return f"setting {path} = {wrong.shown}: {wrong.why}."
    top = path.partition("[")[0]
    while _hint_of(top) is None and "." in top:
        top = top.rpartition(".")[0]
    where = f"{variable_of(top)} or `{path}:` in the file"
    return f"setting {path} = {wrong.shown}: {wrong.why}. Set {where}."


def _holds_password(name: str) -> bool:
    found = _declared(name)
    return found is not None and found.holds_password


def _contradictions(settings: Settings) -> Iterator[str]:
    """Settings that are right by themselves and wrong together, and addresses of stores."""
    for name, url, schemes in (
        ("database.url", settings.database.url, _DATABASE_SCHEMES),
        ("redis.url", settings.redis.url, _REDIS_SCHEMES),
    ):
        if url is not None and not url.startswith(schemes):
            # The address may hold a password: it is not repeated.
            first, *others = (f"{scheme}..." for scheme in schemes)
            yield (
                f"setting {name} must begin with {', '.join([first, *others[:-1]])} or {others[-1]}"
                f". Set {variable_of(name)} or `{name}:` in the file."
            )
    if bool(settings.tls.certificate_file) != bool(settings.tls.key_file):
        yield "tls.certificate_file and tls.key_file belong together: set both"
    yield from _upstream_contradictions(settings)
    routing = settings.routing
    known = {*POLICIES, *routing.custom_policies}
    for name in (routing.policy, *routing.policy_overrides.values()):
        if name not in known:
            yield f"setting routing: no policy `{name}`; known: {', '.join(sorted(known))}"


_DATABASE_SCHEMES = ("postgresql://", "postgresql+psycopg://", "sqlite:///")
_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")
_OWN_UPSTREAMS = ("engine", "embedder")


def _upstream_contradictions(settings: Settings) -> Iterator[str]:
    """Upstreams that cannot be told apart, or that a residency rule cannot judge."""
    routing, places = settings.routing, dict[str, int]()
    by_mode = settings.sovereignty.mode != NONE or bool(routing.sovereignty)
    ruled = "routing.residency" if routing.residency else "sovereignty" if by_mode else ""
    for number, upstream in enumerate(settings.upstreams):
        first = places.setdefault(upstream.id, number)
        if first != number:
            yield (
                f"setting upstreams[{number}].id = {upstream.id!r}: upstreams[{first}] has this id "
                "already; calls for one would go to the other's address. Give each its own."
            )
        if upstream.id in _OWN_UPSTREAMS and (settings.engine.enabled or settings.engine.url):
            yield (
                f"setting upstreams[{number}].id = {upstream.id!r}: the embedded engine has this "
                "id. Choose another, or set `engine.enabled: false`."
            )
        if ruled and upstream.provider == "custom" and not upstream.zone:
            yield (
                f"setting upstreams[{number}].zone is missing: `{ruled}` has rules, and "
                f"the catalog does not say where the machines of `{upstream.id}` are. Set it to "
                f"one of {', '.join(ZONES)}."
            )
