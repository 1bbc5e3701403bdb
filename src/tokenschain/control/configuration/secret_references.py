"""References to secrets that come over the API: which an upstream made there may name.

Whoever tests or adds an upstream decides where its key is sent. What control and the gateways can
read is more than that: their own secrets, and files of the account that they run as.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from tokenschain.infra import hardening
from tokenschain.infra.config import ENV_PREFIX, Settings


def refusal_of(reference: str, settings: Settings) -> str | None:
    """Why an upstream made by the API may not name a secret; None where it may.

    Args:
        reference: as `env:NAME`, `file:PATH` or `sealed:NAME`.
    """
    kind, _, name = reference.partition(":")
    if kind == "file":
        why = _of_file(Path(name), settings)
    elif kind == "env":
        own = name.startswith(ENV_PREFIX) or hardening.is_passed_to_all(name)
        why = "it is the platform's own" if own else None
    else:
        why = None
    if why is None and _place(reference) in set(map(_place, _of_other_parts(settings))):
        why = "another part of the platform uses it"
    if why is None and not any(fnmatchcase(reference, one) for one in settings.secrets.references):
        why = "the setting `secrets.references` does not name it"
    return why


def _of_file(path: Path, settings: Settings) -> str | None:
    if not path.is_absolute() or ".." in path.parts:
        return "it is no absolute path"
    own = {_real(one) for one in _own_files(settings)}
    found = _real(path)
    if found == _real(settings.engine_key_path):
        return None  # the key of an upstream that this machine serves itself
    if own.intersection((found, *found.parents)):
        return "it is the platform's own"
    return None


def _own_files(settings: Settings) -> Iterator[Path]:
    yield settings.data_dir
    yield settings.internal_secret_path
    yield settings.master_key_path
    yield settings.metrics_token_path
    yield settings.operator_token_path
    yield settings.vault_path


def _of_other_parts(settings: Settings) -> Iterator[str]:
    models = (settings.cache.judge, settings.cache.embedder)
    keys = (one.credential for one in models if one is not None)
    own = settings.smtp.password, settings.oidc.client_secret, settings.audit.anchor_credential
    yield from filter(None, (*own, *keys))


def _place(reference: str) -> str:
    """A reference, or the file that one leads to, however it is written."""
    kind, _, name = reference.partition(":")
    return f"file:{_real(Path(name))}" if kind == "file" else reference


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
