"""Snapshot on disk: what a gateway serves by when it starts without control, and never an older.

Signed by the gateway itself, part by part whole, and not of an earlier revision than the highest
that was served here: that is remembered apart, so that files put back from a copy are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from tokenschain.core.log_events import Reporter
from tokenschain.core.snapshot.manifest import SNAPSHOT_FORMAT, Manifest
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.security.suite import Suite


class Revision(NamedTuple):
    """The place of a configuration in time; a later one is greater."""

    number: int = 0
    """Control's revision; rises with every change in its database."""
    at_ms: int = 0
    """Unix time when it was published: two of one revision differ where settings were changed."""


class KeptSnapshot:
    """The configuration that one worker keeps on disk."""

    def __init__(
        self,
        folder: Path,
        worker: str,
        suite: Suite,
        signatures: Signatures,
        report: Reporter,
    ) -> None:
        """
        Args:
            folder: of the gateway; each worker has its own files in it.
            suite: names the parts of a configuration by their digests, as control does.
            report: told `snapshot_ignored` with the reason.
        """
        self._folder = folder / "snapshot" / worker
        self._revision_path = folder / "revision" / worker
        self._suite = suite
        self._signatures = signatures
        self._report = report
        self._manifest = b""
        self.highest = self._read_highest()
        """The latest that was served here."""

    def read(self) -> tuple[Manifest, dict[str, bytes]] | None:
        """The manifest and its parts; None where there is none to serve by."""
        try:
            return self._read()
        except FileNotFoundError:
            return None
        except _Ignored as why:
            self._report("snapshot_ignored", f"the snapshot on disk {why}")
            return None

    def _read(self) -> tuple[Manifest, dict[str, bytes]]:
        body = self._proven(self._folder / "manifest")
        manifest = msgspec.json.decode(body, type=Manifest)
        if manifest.format != SNAPSHOT_FORMAT:
            raise _Ignored("is of another version's format")
        if Revision(manifest.revision, manifest.at_ms) < self.highest:
            raise _Ignored("is older than the last that was served here")
        parts = {}
        for name in manifest.parts:
            try:
                parts[name] = (self._folder / name).read_bytes()
            except FileNotFoundError:
                parts[name] = b""
            if not self._suite.is_digest(parts[name], name):
                raise _Ignored("is not whole")
        self._manifest = body
        return manifest, parts

    def write(self, manifest: Manifest, body: bytes, parts: Mapping[str, bytes]) -> None:
        """Keep a configuration: parts first, then the manifest that names them.

        Args:
            parts: those that are new.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, payload in parts.items():
            _write(self._folder / name, payload)
        _write(self._folder / "manifest", self._signed(body))
        self._manifest = body
        revision = Revision(manifest.revision, manifest.at_ms)
        if revision > self.highest:
            self.highest = revision
            self._write_highest()
        live = {*manifest.parts, "manifest"}
        for path in self._folder.iterdir():
            if path.name not in live:
                path.unlink(missing_ok=True)

    def renew(self) -> None:
        """Sign again what is kept, where another secret is in force by now."""
        path = self._folder / "manifest"
        if self._manifest and path.read_bytes() != self._signed(self._manifest):
            _write(path, self._signed(self._manifest))
            self._write_highest()

    def _write_highest(self) -> None:
        self._revision_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(self._revision_path, self._signed(msgspec.json.encode(self.highest)))

    def _read_highest(self) -> Revision:
        try:
            return msgspec.json.decode(self._proven(self._revision_path), type=Revision)
        except (FileNotFoundError, _Ignored):
            return Revision()

    def _signed(self, body: bytes) -> bytes:
        return self._signatures.of_disk(body).encode() + b"\n" + body

    def _proven(self, path: Path) -> bytes:
        signature, _, body = path.read_bytes().partition(b"\n")
        if not self._signatures.is_of_disk(body, signature.decode("latin-1")):
            raise _Ignored("is not signed by this secret")
        return body


class _Ignored(Exception):
    """What is on disk is not to be served by."""


def _write(path: Path, payload: bytes) -> None:
    partial = path.with_suffix(f".{os.getpid()}.part")
    partial.write_bytes(payload)
    os.replace(partial, path)
