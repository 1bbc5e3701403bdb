"""Settings file as resources: read at each start, on SIGHUP, and when the file changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from tokenschain.control.audit.admin_log import Author
from tokenschain.control.configuration import checks, configuration, kinds, model_routes
from tokenschain.control.configuration.changes import (
    Change,
    ConfigurationRefused,
    Configurator,
    Outcome,
)
from tokenschain.control.configuration.kinds import Spec
from tokenschain.control.configuration.resources import Origin, Problem, ResourceKey
from tokenschain.control.configuration.store import StoredResource
from tokenschain.core.log_events import Reporter
from tokenschain.core.pricing.catalog import Catalog
from tokenschain.infra.config import Settings, SettingsError
from tokenschain.infra.security.suite import Suite

LOOK_S = 1.0
"""How often the file is looked at."""
AUTHOR = Author("file")


def problems(
    settings: Settings, catalog: Catalog, found: Mapping[ResourceKey, StoredResource] | None
) -> list[Problem]:
    """What is wrong with what the settings manage, beside what the API made.

    Args:
        found: every resource in the database; None where they cannot be had: what they might
            mend is nothing wrong then.
    """
    specs = configuration.specs_of(settings)
    kept = {key: one.spec for key, one in (found or {}).items()}
    made = {key: one.spec for key, one in (found or {}).items() if one.managed_by is Origin.API}
    wrong = [
        one for key, spec in specs.items() for one in kinds.read(key, kinds.canonical(spec))[1]
    ]
    old = set(_of_whole(kept, settings, catalog))
    wrong += [
        one
        for one in _of_whole({**made, **specs}, settings, catalog)
        if (one.key in specs or (one not in old and not one.tenant))
        and (found is not None or one.names is None)
    ]
    return list(dict.fromkeys(wrong))


def _of_whole(
    specs: Mapping[ResourceKey, Spec], settings: Settings, catalog: Catalog
) -> list[Problem]:
    given = configuration.of_specs(specs)
    return checks.problems(given, model_routes.build(given, settings, catalog, ()))


class SettingsFile:
    """Keeps the resources that the settings file manages as the file says."""

    def __init__(
        self,
        engine: Engine,
        configurator: Configurator,
        suite: Suite,
        load: Callable[[], Settings],
        path: Path | None,
        report: Reporter,
        alert: Callable[[Mapping[str, object]], None],
    ) -> None:
        """
        Args:
            load: the settings as file and environment give them now.
            path: of the file; None where there is none.
            report: told `settings_file_in_force`, and `settings_file_refused` where what is in
                force stays.
            alert: notes for the operators that the file was refused.
        """
        self._engine = engine
        self._configurator = configurator
        self._suite = suite
        self._load = load
        self._path = path
        self._report = report
        self._alert = alert
        if path is not None:
            configurator.settings_file = f"the settings file {path.absolute()} of control"
        self._seen = self._look()
        self._asked = asyncio.Event()

    def apply(self, settings: Settings) -> Outcome | None:
        """Make the configuration what the settings say; None where they are refused."""
        try:
            return self._apply(settings)
        except ConfigurationRefused as error:
            self._refuse(str(error))
            return None

    def _apply(self, settings: Settings) -> Outcome:
        specs = configuration.specs_of(settings)
        said = {str(key): kinds.canonical(spec) for key, spec in specs.items()}
        digest = self._suite.hex_digest(msgspec.json.encode(said, order="sorted"))
        where = "environment" if self._path is None else str(self._path)
        with self._engine.begin() as connection:
            managed = self._configurator.read(connection)
            wanted = [Change(key, kinds.canonical(spec)) for key, spec in specs.items()]
            wanted += [
                Change(key, None)
                for key, one in managed.items()
                if one.managed_by is Origin.FILE and key not in specs
            ]
            outcome = self._configurator.change(
                connection, AUTHOR, wanted, origin=Origin.FILE, reason=f"settings: {where}",
                detail={"digest": digest},
            )  # fmt: skip
        if outcome.revision:
            count = len(outcome.changed)
            self._report("settings_file_in_force", revision=outcome.revision, changed=count)
        for warning in outcome.warnings:
            self._report("settings_file_warning", str(warning))
        return outcome

    def hang_up(self) -> None:
        """Read the file again, as SIGHUP asks."""
        self._asked.set()

    async def run(self) -> None:
        """Follow the file until cancelled."""
        while True:
            asked = await self._waited()
            seen = await asyncio.to_thread(self._look)
            if asked or seen != self._seen:
                self._seen = seen
                await asyncio.to_thread(self._read_again)

    async def _waited(self) -> bool:
        """Whether somebody asked before it is time to look."""
        try:
            async with asyncio.timeout(LOOK_S):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    def _read_again(self) -> None:
        try:
            settings = self._load()
        except SettingsError as error:
            self._refuse(str(error))
            return
        try:
            self.apply(settings)
        except SQLAlchemyError as error:
            # The next look reads it again.
            self._seen = ()
            self._report("chore_failed", type(error).__name__)

    def _refuse(self, why: str) -> None:
        line = "; ".join(why.splitlines())
        self._report("settings_file_refused", f"what was in force stays: {line}")
        self._alert({"subject": [str(self._path or "environment")], "reason": line[:500]})

    def _look(self) -> tuple[int, ...]:
        if self._path is None:
            return ()
        try:
            found = self._path.stat()
        except OSError:
            return ()
        return (found.st_ino, found.st_mtime_ns, found.st_size)
