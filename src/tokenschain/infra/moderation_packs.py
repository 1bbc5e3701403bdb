"""Folder of keyword packs: read, checked against their signatures, and read again when changed."""

from __future__ import annotations

import asyncio
import datetime
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from tokenschain.core.gateway_status import PackStatus
from tokenschain.core.log_events import Reporter
from tokenschain.core.moderation.library import CharacterTables, RuleLibrary
from tokenschain.core.moderation.packs import BadPack, Pack, coverage_gaps, read_pack
from tokenschain.infra.chinese_characters import simplified_characters, syllables
from tokenschain.infra.security.pack_signatures import is_signed

SEED = "moderation_seed.json"
LOOK_S = 2.0
PACK_BYTES_MAX = 67_108_864
PACKS_MAX = 100


def character_tables() -> CharacterTables:
    """See `core.moderation.library.RuleLibrary`; takes some 0.2 s."""
    return CharacterTables(simplified_characters(), syllables())


def seed_pack() -> Pack:
    """The pack that comes with the platform."""
    return read_pack((files("tokenschain") / "data" / SEED).read_bytes())


def today() -> str:
    """As `2027-06-30`."""
    return datetime.date.today().isoformat()


class PackFolder:
    """Keeps a library's packs those of a folder, and the seed."""

    def __init__(
        self, folder: Path, public_keys: Sequence[str], library: RuleLibrary, report: Reporter
    ) -> None:
        """
        Args:
            public_keys: of those who may sign packs.
            report: told when packs change, and of each that is not used.
        """
        self._folder, self._keys = folder, tuple(public_keys)
        self._library, self._report = library, report
        self._seen: object = None
        self.statuses: tuple[PackStatus, ...] = ()
        self.words_missing = 0
        """Of what the standard asks; see `core.moderation.packs.coverage_gaps`."""

    def load(self) -> None:
        """Read what has changed. A pack that cannot be used is left out, and said."""
        seen = self._state()
        if seen == self._seen:
            return
        self._seen = seen
        packs = {}
        seed = seed_pack()
        packs[seed.name] = seed
        day, statuses = today(), []
        for path in sorted(self._folder.glob("*.json"))[:PACKS_MAX]:
            try:
                pack, renewed_s = load_pack(path, self._keys), path.stat().st_mtime
            except (OSError, BadPack) as error:
                self._report("moderation_pack_refused", str(error), pack=path.name)
                continue
            packs[pack.name] = pack
            expired = sum((word.expires or pack.expires) <= day for word in pack.words)
            statuses.append(
                PackStatus(pack.name, pack.version, renewed_s, len(pack.words), expired)
            )
        self.statuses = tuple(statuses)
        self.words_missing = coverage_gaps(packs.values(), day).get("total", 0)
        self._library.install(packs)
        self._report(
            "moderation_packs_in_force",
            packs=", ".join(f"{pack.name} {pack.version}" for pack in packs.values())[:1_000],
        )  # fmt: skip

    async def watch(self) -> None:
        """Look for changes; runs until cancelled."""
        while True:
            await asyncio.to_thread(self.load)
            await asyncio.sleep(LOOK_S)

    def _state(self) -> object:
        found: list[object] = [today()]  # words expire by the day
        if self._folder.is_dir():
            for path in sorted(self._folder.iterdir()):
                try:
                    stat = path.stat()
                except OSError:
                    continue
                found.append((path.name, stat.st_mtime_ns, stat.st_size))
        return found


def load_pack(path: Path, public_keys: Sequence[str]) -> Pack:
    """A pack whose signature is right.

    Raises:
        BadPack: it is none, or nobody who may has signed it.
        OSError: it cannot be read.
    """
    if path.stat().st_size > PACK_BYTES_MAX:
        raise BadPack(f"it is larger than {PACK_BYTES_MAX} bytes")
    data = path.read_bytes()
    signature = signature_path(path)
    if not signature.is_file():
        raise BadPack(f"there is no signature beside it ({signature.name})")
    if not is_signed(data, signature.read_bytes(), public_keys):
        raise BadPack("no key of `moderation.pack_keys` has signed it")
    return read_pack(data)


def signature_path(pack: Path) -> Path:
    """Where the signature of a pack is."""
    return pack.with_name(pack.name + ".sig")
