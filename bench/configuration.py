"""How long control takes to build and to change a configuration of 10,000 virtual models.

    python -m bench.configuration [--rounds N]

300 upstreams that sell eight models each, 10,000 virtual models of three entries and 240 models
more, as resources in SQLite. Built is the snapshot that gateways get, from the resources as they
are in the database: at a start, where all are read, and after a change of one, which is checked
against all of them before. Shown are medians of the rounds, and the longest.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.control.configuration.conftest import Platform, configurator, upstream

from tokenschain.control.configuration.changes import Change
from tokenschain.control.configuration.resources import Kind, ResourceKey
from tokenschain.control.publisher import Publisher
from tokenschain.core.log_events import silent
from tokenschain.infra.config import Settings
from tokenschain.infra.database import engine as db
from tokenschain.infra.security.suite import INTERNATIONAL

UPSTREAMS, SOLD, MODELS, VIRTUAL = 300, 8, 240, 10_000


def resources() -> list[Change]:
    """A large configuration."""
    found = []
    for n in range(UPSTREAMS):
        sold = [f"model-{(n * SOLD + m) % MODELS}" for m in range(SOLD)]
        found.append(_change(Kind.UPSTREAM, f"u{n}", upstream(*sold)))
    for n in range(MODELS):
        offers = [{"upstream": f"u{n}", "model": "m", "price": {"input": "1", "output": "2"}}]
        found.append(_change(Kind.MODEL, f"own-{n}", {"offers": offers}))
    found += [_change(Kind.VIRTUAL_MODEL, f"virtual-{n}", virtual_model(n)) for n in range(VIRTUAL)]
    return found


def virtual_model(number: int) -> dict[str, Any]:
    """The spec of one, of three entries."""
    models = [f"model-{(number + n) % MODELS}" for n in range(3)]
    return {"entries": [{"model": models[0], "when": {"language": "zh"}}, *(
        {"model": model} for model in models[1:])]}  # fmt: skip


def _change(kind: Kind, name: str, values: dict[str, Any]) -> Change:
    return Change(ResourceKey(kind, "", name), values)


def publisher(platform: Platform, folder: Path) -> Publisher:
    """As at a start of control: nothing is known yet, and the snapshot is built."""
    settings = Settings(data_dir=folder, engine=Settings().engine.__class__(enabled=False))
    secrets = ("s" * 43,)
    return Publisher(
        platform.engine, settings, configurator(folder), INTERNATIONAL, lambda: secrets, silent
    )


class Timed:
    """How long something took, each time."""

    def __init__(self, what: str) -> None:
        self._what = what
        self.took_s: list[float] = []

    def run(self, work: Callable[[], object]) -> None:
        """Do it once more."""
        began = time.perf_counter()
        work()
        self.took_s.append(time.perf_counter() - began)

    def __str__(self) -> str:
        middle, longest = statistics.median(self.took_s), max(self.took_s)
        return f"{self._what:<44}{middle:6.2f} s, longest {longest:5.2f} s"


def measure(folder: Path, rounds: int) -> list[Timed]:
    """Build and change it so often."""
    engine = db.connect(f"sqlite:///{folder / 'tokenschain.db'}")
    db.migrate(engine)
    platform = Platform(engine, configurator(folder))
    at_start, checked, rebuilt = (
        Timed("built at a start, all resources read"),
        Timed("one virtual model changed, checked, written"),
        Timed("built after that change"),
    )
    written = Timed("all of them applied to an empty platform")
    written.run(lambda: platform.change(resources()))
    for _ in range(rounds):
        at_start.run(lambda: publisher(platform, folder))
    running = publisher(platform, folder)
    running._configurator = platform.configurator
    for n in range(rounds):
        spec = virtual_model(n + 1)
        checked.run(lambda s=spec: platform.put(Kind.VIRTUAL_MODEL, "virtual-0", s))  # type: ignore[misc]
        rebuilt.run(running.refresh)
    assert len(running.snapshot.routing.models) == VIRTUAL
    engine.dispose()
    return [written, at_start, checked, rebuilt]


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        print(*measure(Path(folder), rounds), sep="\n")


if __name__ == "__main__":
    main()
