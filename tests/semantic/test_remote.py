"""Another embedder in place of the house's: its cosines are brought to the trained one's scale."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.small_server import JsonHandler, serving
from tokenschain.semantic.embedders import Embedders, Vectors
from tokenschain.semantic.remote import (
    E5_ALIKE,
    E5_UNLIKE,
    RemoteEmbedder,
    RemoteError,
    RemoteModel,
)
from tokenschain.semantic.synthetic_questions import alike_and_unlike
from tokenschain.wire.client import HttpClient


@pytest.fixture(scope="module")
def models() -> Embedders:
    return Embedders()


def median(vectors: dict[str, Any], pairs: list[tuple[str, str]]) -> float:
    return float(np.median([vectors[a] @ vectors[b] for a, b in pairs]))


def test_the_scale_is_that_of_the_embedder_the_verifier_was_trained_with(models: Embedders) -> None:
    alike, unlike = alike_and_unlike()
    texts = sorted({text for pair in (*alike, *unlike) for text in pair})
    vectors = dict(zip(texts, models.fine(texts), strict=True))
    assert median(vectors, alike) == pytest.approx(E5_ALIKE, abs=0.003)
    assert median(vectors, unlike) == pytest.approx(E5_UNLIKE, abs=0.003)


class Handler(JsonHandler):
    """Gives vectors whose floor is much higher than those of `models`, or all the same."""

    models: ClassVar[Embedders]
    flat: ClassVar[bool] = False

    def do_POST(self) -> None:
        texts = json.loads(self.rfile.read(int(self.headers["content-length"])))["input"]
        plain: Vectors = self.models.fine(texts)
        tall = np.hstack([plain * (0.0 if self.flat else 1.0), np.full((len(texts), 1), 2.0)])
        rows = [{"index": i, "embedding": row.tolist()} for i, row in enumerate(tall)]
        self._send(200, {"data": rows})


@contextmanager
def remote(models: Embedders) -> Iterator[RemoteEmbedder]:
    """One that asks a server of its own."""
    Handler.models, Handler.flat = models, False
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    client = HttpClient()
    with serving(Handler) as url:
        model = RemoteModel(client, url, "tall", lambda: None, 10.0)
        yield RemoteEmbedder(model, models.fine_dimensions + 1, loop, 10.0)
    loop.call_soon_threadsafe(client.close)
    loop.call_soon_threadsafe(loop.call_later, 0.1, loop.stop)  # once its connections are closed
    thread.join()
    loop.close()


def test_cosines_of_another_model_say_what_the_trained_ones_would(models: Embedders) -> None:
    pairs = [
        ("How do I return a lamp?", "How can I return a lamp?"),
        ("How do I return a lamp?", "What is the weather like on Mars?"),
        ("怎么开通会员", "如何开通会员"),
        ("Refund within 30 days?", "Refund within 3 days?"),
    ]
    texts = [text for pair in pairs for text in pair]
    with remote(models) as other:
        found = other.embed(texts)
        assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        theirs = other.to_scale((found[::2] * found[1::2]).sum(axis=1))
    own = models.fine(texts)
    assert np.allclose(theirs, (own[::2] * own[1::2]).sum(axis=1), atol=0.02)
    assert float(theirs.max()) <= 1.0


def test_a_model_that_tells_nothing_apart_is_refused(models: Embedders) -> None:
    with remote(models) as other:
        Handler.flat = True
        with pytest.raises(RemoteError, match="do not tell questions apart"):
            other.embed(["x"])
