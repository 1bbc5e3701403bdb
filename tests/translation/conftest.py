"""One gateway in this process for all tests of translation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.translation.lab import Lab


@pytest.fixture(scope="session")
def shared_lab() -> Iterator[Lab]:
    loop = asyncio.new_event_loop()
    yield Lab(loop)
    loop.close()


@pytest.fixture
def lab(shared_lab: Lab) -> Iterator[Lab]:
    shared_lab.fresh()
    yield shared_lab
    shared_lab.alter = None  # the next test has the vendors as they are
