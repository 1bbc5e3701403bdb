"""Loads the settings: a YAML file, overridden by environment variables, overridden by flags."""

from __future__ import annotations

import difflib
import os
import re
import types
from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import msgspec
import yaml

from tokenschain.core.snapshot import ZONES, UpstreamLimits
from tokenschain.core.snapshot.routing_policy import POLICIES
from tokenschain.infra.config import declared
from tokenschain.infra.config.groups import Settings, UpstreamSettings
from tokenschain.infra.config.renamed import RENAMED
from tokenschain.infra.config.value_types import NETWORK, Reference

ENV_PREFIX = "TOKENSCHAIN_"
ADMIN_TOKEN_VARIABLE = "TOKENSCHAIN_ADMIN_TOKEN"  # noqa: S105
DEFAULT_FILE = "tokenschain.yaml"
_REFERENCE = "see docs/reference/settings.md for names"
_SHOWN_MAX = 100

Values = dict[str, Any]
"""Settings as the file holds them."""


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
    problems = [*_raw_secrets(values, ""), *_problems(Settings, values, "")]
    if problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))
    settings: Settings = _convert(_published(Settings, values), Settings)
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
        raise SettingsError(f"{path}: is no YAML{where}: {_without_secrets(what)}") from None
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
    return f"{path} line {number + 1}: {why}"


def _environment() -> Iterator[tuple[str, object]]:
    """Settings that the environment gives, by their names with dots."""
    for variable in sorted(os.environ):
        if not variable.startswith(ENV_PREFIX):
            continue
        if variable in (f"{ENV_PREFIX}CONFIG", ADMIN_TOKEN_VARIABLE):
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


def _problems(struct: type, values: object, path: str) -> Iterator[str]:
    """What is wrong with the values of a group: names, then types and ranges."""
    if not isinstance(values, dict):
        yield f"setting {path} = {_shown(values)}: must be `name: value` lines."
        return
    fields = declared.fields_of(struct)
    for name, value in values.items():
        full = f"{path}.{name}" if path else str(name)
        if full in RENAMED:
            yield f"`{full}` is now `{RENAMED[full]}`"
        elif name not in fields:
            near = difflib.get_close_matches(str(name), list(fields), 1)
            hint = f"did you mean `{near[0]}`?" if near else f"remove it, or {_REFERENCE}"
            yield f"unknown setting {full}: {hint}"
        else:
            yield from _wrong(fields[name].hint, value, full)
    for name, found in fields.items():
        if found.default is msgspec.NODEFAULT and name not in values:
            yield f"setting {path}.{name} is missing: {found.description}"


def _wrong(hint: Any, value: object, path: str) -> Iterator[str]:
    """What is wrong with one value, item by item, so that the message names the item."""
    struct, bare = declared.struct_of(hint), declared.bare_of(hint)
    optional = get_origin(_unannotated(hint)) in (Union, types.UnionType) and value is None
    if struct is not None and not optional:
        found = list(_problems(struct, value, path))
        yield from found
        if not found and isinstance(value, dict):
            try:  # what a group checks by itself, as that no price is negative
                _convert(_published(struct, value), struct)
            except msgspec.ValidationError as error:
                yield _explain(path, value, str(error).partition(" - at ")[0])
    elif get_origin(bare) is tuple and value is not None and not isinstance(value, dict):
        for number, item in enumerate(_items(bare, value)):
            yield from _wrong(get_args(bare)[0], item, f"{path}[{number}]")
    elif get_origin(bare) is dict and isinstance(value, dict):
        of_key, of_value = get_args(bare)
        for key, item in value.items():
            yield from _wrong(of_key, key, f"{path}.{key}")
            yield from _wrong(of_value, item, f"{path}.{key}")
    else:
        try:
            _convert(_literal(hint, value), hint)
            if NETWORK in getattr(hint, "__metadata__", ()):
                ip_network(str(value))
        except msgspec.ValidationError:
            secret = declared.bare_of(hint) is str and "sealed" in str(hint)
            why = f"must be {declared.range_of(hint)}"
            if secret:
                why += "; put the secret into the environment, or use `tokenschain secrets set`"
            # What stands for a secret's place may be the secret itself: it is not repeated.
            yield _explain(path, "…" if secret else value, why)
        except ValueError as error:
            yield _explain(path, value, str(error))


def _unannotated(hint: Any) -> Any:
    return hint.__origin__ if hasattr(hint, "__metadata__") else hint


def _explain(path: str, value: object, why: str) -> str:
    top = path.partition("[")[0]
    while _hint_of(top) is None and "." in top:
        top = top.rpartition(".")[0]
    where = f"{variable_of(top)} or `{path}:` in the file"
    return f"setting {path} = {_shown(value)}: {why}. Set {where}."


def _shown(value: object) -> str:
    return _without_secrets(repr(value))[:_SHOWN_MAX]


_SECRET = re.compile(
    r"(?<![A-Za-z0-9])(sk-[\w-]{12,}|tc[ao]?-[\w-]{20,}|AKIA[0-9A-Z]{12,}|AKID\w{12,}|LTAI\w{12,}"
    r"|gh[pousr]_\w{20,}|hf_\w{20,}|xox[bp]-[\w-]{20,}|eyJ[\w-]{10,}\.[\w-]+(\.[\w-]+)?"
    r"|[0-9a-f]{32}\.\w{16}|Bearer\s+\S{12,}|-----BEGIN [A-Z ]*PRIVATE KEY)"
)
"""What vendors', clouds' and our own keys look like."""
_WITH_PASSWORD = re.compile(r"(?<=://)[^/\s@]*:[^/\s@]*@")


def _raw_secrets(value: object, path: str) -> Iterator[str]:
    """Settings that hold a secret itself and not its place; the secret is not repeated."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _raw_secrets(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _raw_secrets(inner, f"{path}[{number}]")
    elif isinstance(value, str) and (
        _SECRET.search(value) or (not _holds_password(path) and _WITH_PASSWORD.search(value))
    ):
        yield (
            f"setting {_without_secrets(path)} holds a secret itself: put it into an environment "
            "variable, a file or `tokenschain secrets set NAME`, and give `env:NAME`, `file:PATH` "
            "or `sealed:NAME` where a credential is asked for"
        )


def _holds_password(name: str) -> bool:
    found = _declared(name)
    return found is not None and found.holds_password


def _without_secrets(text: str) -> str:
    return _WITH_PASSWORD.sub("…@", _SECRET.sub("…", text))


def _convert(value: object, to: Any) -> Any:
    return msgspec.convert(value, to, strict=False, dec_hook=_from_text)


def _literal(hint: Any, value: Any) -> Any:
    """`off`, `on`, `yes` and `no` as the words they are where a word is asked: YAML 1.1 reads them
    as true and false."""
    if isinstance(value, bool) and get_origin(declared.bare_of(hint)) is Literal:
        words = ("on", "yes") if value else ("off", "no")
        return next((word for word in words if word in get_args(declared.bare_of(hint))), value)
    return value


def _from_text(wanted: type, value: Any) -> Any:
    if wanted is Path and isinstance(value, str | Path):
        return Path(value)
    raise TypeError("must be a path")


def _published(struct: type, values: Values) -> Values:
    """The values of a group in the form that is declared, all groups below it included."""
    found: Values = {"zone": "", "limits": {}} if struct is UpstreamSettings else {}
    for name, declaration in declared.fields_of(struct).items():
        if name not in values:
            continue
        value = _in_form(declaration.hint, values[name])
        if struct is UpstreamSettings and name in UpstreamLimits.__struct_fields__:
            found["limits"][name] = value
        else:
            found[name] = value
    return found


def _in_form(hint: Any, value: Any) -> Any:
    """One value in the form that is declared."""
    struct, bare = declared.struct_of(hint), declared.bare_of(hint)
    if struct is not None:
        return value if value is None else _published(struct, value)
    if get_origin(bare) is tuple and not isinstance(value, dict):
        return [_in_form(get_args(bare)[0], item) for item in _items(bare, value)]
    if get_origin(bare) is dict and isinstance(value, dict):
        return {key: _in_form(get_args(bare)[1], item) for key, item in value.items()}
    return _literal(hint, value)


def _items(bare: Any, value: object) -> list[Any] | tuple[Any, ...]:
    """The items of a list: given as such, as one item, or as text with commas between them."""
    if isinstance(value, list | tuple):
        return value
    if not isinstance(value, str):
        return [value]
    if get_args(bare)[0] is Reference:
        return [value]
    return [part.strip() for part in value.split(",") if part.strip()]


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
    places: dict[str, int] = {}
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
        if settings.routing.residency and upstream.provider == "custom" and not upstream.zone:
            yield (
                f"setting upstreams[{number}].zone is missing: `routing.residency` has rules, and "
                f"the catalog does not say where the machines of `{upstream.id}` are. Set it to "
                f"one of {', '.join(ZONES)}."
            )
