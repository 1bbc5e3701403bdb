"""Long work beside the loop: whose turn it is, and what becomes of those who leave."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import KeyGrant
from tokenschain.infra.off_loop import WorkThread


class Gate:
    """A work thread whose first piece of work lasts until it is opened."""

    def __init__(self, **bounds: int) -> None:
        self.thread = WorkThread("bodies", **bounds)
        self.done: list[str] = []
        self._open = threading.Event()
        self._held = asyncio.ensure_future(self.thread(self._open.wait))

    def ask(self, key: str, name: str = "") -> asyncio.Task[None]:
        """Work of a key, written `tenant/key`, that notes its name."""
        tenant, _, key_id = key.partition("/")
        grant = KeyGrant(key_id, tenant, "p", "e")
        note = self.done.append
        return asyncio.ensure_future(self.thread(lambda: note(name or key), grant))

    async def open(self, *tasks: asyncio.Task[None]) -> None:
        self._open.set()
        await asyncio.gather(self._held, *tasks)


def run(of: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(of(), 60))


def test_tenants_take_turns_and_within_them_their_keys() -> None:
    async def of() -> None:
        gate = Gate()
        many = [gate.ask("a/1", f"a{n}") for n in range(6)]
        more = [gate.ask(key) for key in ("a/2", "b/1", "b/1", "c/1")]
        await asyncio.sleep(0)
        await gate.open(*many, *more)
        assert gate.done[:4] == ["a0", "b/1", "c/1", "a/2"]
        assert gate.done[4:] == ["b/1", "a1", "a2", "a3", "a4", "a5"] or gate.done[4:] == [
            "a1", "b/1", "a2", "a3", "a4", "a5",
        ]  # fmt: skip

    run(of)


def test_one_key_takes_its_own_places_only() -> None:
    async def of() -> None:
        gate = Gate(waiting_max=10, waiting_of_key_max=4)
        taken = [gate.ask("a/1") for _ in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as refused:
            await gate.ask("a/1")
        assert refused.value.code == "overloaded"
        others = [gate.ask(key) for key in ("a/2", "b/1")]
        await gate.open(*taken, *others)
        assert sorted(gate.done) == ["a/1"] * 4 + ["a/2", "b/1"]
        await gate.ask("a/1")

    run(of)


def test_where_all_places_are_taken_the_tenant_with_most_makes_room() -> None:
    async def of() -> None:
        gate = Gate(waiting_max=8, waiting_of_key_max=2)
        many = [gate.ask(f"a/{key}", f"a/{key}") for key in (1, 2, 3, 4) for _ in range(2)]
        await asyncio.sleep(0)
        others = [gate.ask(key) for key in ("b/1", "c/1", "b/2")]
        await asyncio.sleep(0)
        one_more = gate.ask("a/5")
        leaving = many[-1]
        leaving.cancel()
        await asyncio.wait([one_more, leaving])
        assert isinstance(one_more.exception(), ApiError), "it has most already"
        await gate.open(*others)
        found = await asyncio.gather(*many, return_exceptions=True)
        refused = [one.code for one in found if isinstance(one, ApiError)]
        assert refused == ["overloaded"] * 3
        assert leaving.cancelled() and len(gate.done) == 3 + 4

    run(of)


def test_shares_of_a_full_queue_are_equal_whoever_comes_first() -> None:
    async def of() -> None:
        gate = Gate(waiting_max=12, waiting_of_key_max=3)
        asked = {
            tenant: [gate.ask(f"{tenant}/{key}") for key in range(6) for _ in range(3)]
            for tenant in "abc"
        }
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gate._open.set()
        for tasks in asked.values():
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(one is None for one in found) == 4

    run(of)


def test_who_leaves_gives_up_a_place_and_what_has_begun_is_waited_for() -> None:
    async def of() -> None:
        gate = Gate(waiting_of_key_max=1)
        leaving = gate.ask("a/1", "never")
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait([leaving])
        staying = gate.ask("a/1", "done")
        await asyncio.sleep(0)
        gate._held.cancel()
        await asyncio.sleep(0.05)
        assert not gate._held.done(), "what the thread works on may not be settled meanwhile"
        with pytest.raises(asyncio.CancelledError):
            await gate.open(staying)
        await staying
        assert gate.done == ["done"]

    run(of)


def test_a_failure_is_its_callers_and_the_next_goes_on() -> None:
    async def of() -> None:
        thread = WorkThread("bodies")
        with pytest.raises(ZeroDivisionError):
            await thread(lambda: 1 // 0)
        assert await thread(lambda: 7) == 7

    run(of)
