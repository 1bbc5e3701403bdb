"""The snapshot's way into a gateway: all of it or nothing, in small steps, and said to control."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from bench import swap

from tests.fakes import price
from tokenschain.core.limits import Rate
from tokenschain.core.snapshot import (
    ModelRoute,
    Offer,
    Routing,
    Served,
    Snapshot,
    TenantConfiguration,
    Upstream,
    encoding,
)
from tokenschain.core.snapshot.kept_content import KeptContent
from tokenschain.core.snapshot.manifest import KEYS_FORMAT, SNAPSHOT_FORMAT, Manifest
from tokenschain.core.snapshot.shards import SHARDS, encode_shard
from tokenschain.core.snapshot.virtual_models import VirtualModelEntry
from tokenschain.core.tenancy import KeyGrant
from tokenschain.gateway.dispatch.router import check_policies
from tokenschain.infra.control_channel.client import Uplink
from tokenschain.infra.control_channel.kept_snapshot import KeptSnapshot
from tokenschain.infra.control_channel.signatures import Signatures
from tokenschain.infra.security.suite import INTERNATIONAL

DIGEST = b"\x05" * 32


def snapshot(version: str, names: int = 3, policy: str = "balanced", **fields: Any) -> Snapshot:
    upstreams = {n: Upstream(n, "sim", f"http://{n}.example/v1") for n in ("a", "b")}
    offers = tuple(Offer(name, "m", price(0)) for name in upstreams)
    virtual = {f"v{n}": (VirtualModelEntry("m"), VirtualModelEntry("m", "a")) for n in range(names)}
    return Snapshot(
        version,
        upstreams,
        {"m": ModelRoute("m", "chat", offers)},
        Routing(policy, models=virtual, residency=fields.pop("residency", {})),
        tenants={"t": TenantConfiguration({}, {"faq": (VirtualModelEntry("m"),)})},
        **fields,
    )


class ControlFake:
    """What control publishes, and what gateways ask and say."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.body = b""
        self.version = ""

    def publish(
        self,
        version: str,
        revision: int,
        part: bytes,
        key: str = "",
        format_: int = SNAPSHOT_FORMAT,
        keys_format: int = KEYS_FORMAT,
    ) -> None:
        names = [""] * SHARDS
        if key:
            shard = encode_shard({DIGEST: KeyGrant(key, "t", "p", "e")})
            names[DIGEST[0]] = self._keep(b"\xc1" if key == "none" else shard)
        manifest = Manifest(
            version, self._keep(part), tuple(names), format_, revision, revision, keys_format
        )
        self.version, self.body = version, msgspec.json.encode(manifest)

    def _keep(self, payload: bytes) -> str:
        name = INTERNATIONAL.hex_digest(payload)
        self.parts[name] = payload
        return name

    async def exchange(
        self, method: str, path: str, body: bytes, waits: Any, bytes_max: int, known: str
    ) -> tuple[Any, bytes]:
        class Reply:
            status = 304 if f'"{self.version}"' in known else 200

        return Reply, self.body

    async def ask(self, path: str, *_: Any) -> bytes:
        names = path.partition("=")[2].split(",")
        return msgspec.msgpack.encode({name: self.parts[name] for name in names})


class Gateway:
    """The end of the channel in a gateway."""

    def __init__(self, folder: Path, control: ControlFake) -> None:
        self.served = Served()
        self.events: list[str] = []
        signatures = Signatures(INTERNATIONAL, lambda: ["s" * 43], lambda: 0.0)
        kept = KeptSnapshot(folder, "0", INTERNATIONAL, signatures, self._report)
        self.uplink = Uplink(
            control,  # type: ignore[arg-type]
            self.served,
            None,  # type: ignore[arg-type]
            kept,
            INTERNATIONAL,
            self._report,
            1.0,
        )
        self.uplink.check = lambda made: check_policies(made.routing)

    def _report(self, event: str, /, why: str = "", **fields: object) -> None:
        self.events.append(event)

    async def poll(self) -> None:
        await self.uplink._poll()


def test_a_snapshot_comes_back_as_it_was_and_in_the_same_bytes() -> None:
    made = snapshot("1", 5_000)
    payload = encoding.encode(made)
    assert encoding.decode(payload) == made
    assert encoding.encode(encoding.decode(payload)) == payload
    # Half a megabyte of names is read in steps; none is more than a few blocks' worth.
    assert sum(1 for _ in encoding.decode_in_steps(payload)) >= len(payload) // 200_000 > 0


LIMIT, LOWER = (Rate("r", "requests", 100),), (Rate("r", "requests", 1),)
Spoil = Callable[[ControlFake], None]
SPOILED: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "bytes that are none": (lambda c: c.publish("2", 2, b"\xc1nonsense", "new"), ("keys",)),
    "a part that is none": (
        lambda c: c.publish("2", 2, msgspec.msgpack.encode([b"\xc1"]), "new"), ("keys",)
    ),
    "no blocks": (lambda c: c.publish("2", 2, msgspec.msgpack.encode([]), "new"), ("keys",)),
    "a policy that there is none of": (
        lambda c: c.publish(
            "2", 2, encoding.encode(snapshot("2", policy="nope", rates=LOWER)), "new"
        ),
        ("keys", "limits", "residency"),
    ),
    "another format": (
        lambda c: c.publish("2", 2, encoding.encode(snapshot("2", rates=LOWER)), "new", 99),
        ("keys", "limits", "residency"),
    ),
    "another format of keys": (
        lambda c: c.publish("2", 2, encoding.encode(snapshot("2", rates=LOWER)), "new", 99, 99), ()
    ),
    "keys that are none": (
        lambda c: c.publish("2", 2, encoding.encode(snapshot("2", rates=LOWER)), "none"),
        ("limits", "residency"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", sorted(SPOILED))
def test_what_cannot_be_used_changes_nothing_but_keys_and_restrictions(
    how: str, tmp_path: Path
) -> None:
    control = ControlFake()
    gateway = Gateway(tmp_path, control)
    spoil, applied = SPOILED[how]
    before = snapshot("1", rates=LIMIT)

    def check(served: Served, revision: int) -> None:
        now, grant = served.get(), served.grant(DIGEST)
        assert revision == 1, "of the routing"
        assert (now.models, now.upstreams) == (before.models, before.upstreams)
        assert now.routing == before.routing
        assert now.rates == (LOWER if "limits" in applied else LIMIT)
        assert grant is not None and grant.key_id == ("new" if "keys" in applied else "old")

    async def run() -> None:
        control.publish("1", 1, encoding.encode(before), "old")
        await gateway.poll()
        spoil(control)
        await gateway.poll()
        refused = gateway.uplink.refused
        assert refused is not None and refused.revision == 2 and refused.why
        assert refused.applied == applied
        assert gateway.events.count("configuration_refused") == 1
        check(gateway.served, gateway.uplink.revision)
        # So it is after a start without control, too.
        again = Gateway(tmp_path, control)
        again.uplink.start_from_disk()
        check(again.served, again.uplink.revision)
        # It is not asked for again, and the next one is taken.
        await gateway.poll()
        assert gateway.events.count("configuration_refused") == 1
        control.publish("3", 3, encoding.encode(snapshot("3")), "third")
        await gateway.poll()
        grant = gateway.served.grant(DIGEST)
        assert gateway.uplink.refused is None and gateway.served.version == "3"
        assert gateway.served.get() == snapshot("3") and gateway.uplink.revision == 3
        assert grant is not None and grant.key_id == "third"

    asyncio.run(run())


def test_data_goes_where_the_routing_in_force_and_the_refused_one_allow(tmp_path: Path) -> None:
    control = ControlFake()
    gateway = Gateway(tmp_path, control)
    later: dict[str, Any] = {"*": ("cn",), "class/secret": ("own",)}

    async def run() -> None:
        for revision, policy, residency in (
            (1, "balanced", {"*": ("cn", "gov"), "tenant/t": ("gov",)}), (2, "nope", later)
        ):  # fmt: skip
            made = snapshot(str(revision), policy=policy, residency=residency)
            control.publish(str(revision), revision, encoding.encode(made))
            await gateway.poll()
        rules = gateway.served.get().routing.residency
        assert rules == {"*": ("cn",), "tenant/t": ("gov",), "class/secret": ("own",)}
        # What a later one says takes the place of that, be it refused, too.
        control.publish("3", 3, encoding.encode(snapshot("3", policy="nope")))
        await gateway.poll()
        rules = gateway.served.get().routing.residency
        assert rules == {"*": ("cn", "gov"), "tenant/t": ("gov",)}
        control.publish("1", 4, encoding.encode(snapshot("1")))
        await gateway.poll()
        assert gateway.served.get().routing.residency == {}
        assert gateway.uplink.refused is None

    asyncio.run(run())


def test_what_is_no_longer_to_be_kept_is_not_kept_by_a_refused_one(tmp_path: Path) -> None:
    control = ControlFake()
    gateway = Gateway(tmp_path, control)

    async def run() -> None:
        for revision, policy, kept in (
            (1, "balanced", KeptContent.FULL), (2, "nope", KeptContent.NONE)
        ):  # fmt: skip
            made = snapshot(str(revision), policy=policy, contents={"t/": kept})
            control.publish(str(revision), revision, encoding.encode(made))
            await gateway.poll()
        assert gateway.uplink.refused is not None
        assert gateway.served.get().contents == {"t/": KeptContent.NONE}

    asyncio.run(run())


def test_back_to_the_one_in_force_after_a_refused_one(tmp_path: Path) -> None:
    control = ControlFake()
    gateway = Gateway(tmp_path, control)

    async def run() -> None:
        for version, revision, part in (("1", 1, "1"), ("bad", 2, ""), ("1", 3, "1")):
            payload = encoding.encode(snapshot(part)) if part else b"\xc1"
            control.publish(version, revision, payload)
            await gateway.poll()
        assert gateway.uplink.refused is None and gateway.served.version == "1"

    asyncio.run(run())


def test_a_gateway_starts_by_what_it_kept(tmp_path: Path) -> None:
    control = ControlFake()
    control.publish("1", 1, encoding.encode(snapshot("1")), "old")
    asyncio.run(Gateway(tmp_path, control).poll())
    again = Gateway(tmp_path, control)
    again.uplink.start_from_disk()
    assert again.served.get() == snapshot("1") and again.uplink.revision == 1


def test_callers_go_on_while_a_large_configuration_comes_into_force() -> None:
    payload = swap.large("1")
    began = time.thread_time()
    encoding.decode(payload)
    at_once_s = time.thread_time() - began
    served = Served(encoding.decode(swap.large("0")))
    served.version = "0"
    pause_s = min(asyncio.run(swap.pause_of(served, payload)) for _ in range(3))
    assert pause_s < at_once_s / 5
    assert served.version == "1"
