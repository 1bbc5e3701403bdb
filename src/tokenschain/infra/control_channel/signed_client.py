"""HTTP client whose requests and answers are signed (HMAC) with the platform's internal secret."""

from __future__ import annotations

import asyncio

from tokenschain.infra.control_channel.protocol import SIGNATURE_HEADER
from tokenschain.infra.control_channel.signatures import LARGE_BYTES, Signatures, Signed
from tokenschain.wire.client import HttpClient, Origin, Reply, Waits
from tokenschain.wire.request_head import encode_lines

ANSWER_BYTES_MAX = 16_777_216
_ASK_WAITS = Waits(connect_max_s=0.5, first_byte_max_s=10.0, total_max_s=15.0)
_SHOWN_MAX = 300


class Refused(Exception):
    """The other process answered, but not with what was asked for."""


class SignedClient:
    """Asks another process of the platform."""

    def __init__(self, url: str, signatures: Signatures, client: HttpClient) -> None:
        self._origin = Origin.of(url)
        self._signatures = signatures
        self._client = client

    async def exchange(
        self, method: str, path: str, body: bytes, waits: Waits, bytes_max: int, more: str = ""
    ) -> tuple[Reply, bytes]:
        """One exchange: the reply, whatever its status, and its body.

        Args:
            more: header lines, each with its line end.

        Raises:
            ClientError: the other process cannot be reached.
            Refused: the answer is not that process' answer to this request.
        """
        given = (method, path, body, more)
        if len(body) < LARGE_BYTES:
            signed, asked = self._signed(*given)
        else:
            signed, asked = await asyncio.to_thread(self._signed, *given)
        reply = await self._client.open(self._origin, asked, waits)
        answer = await reply.read(bytes_max)
        signature = reply.headers.get(SIGNATURE_HEADER.encode(), b"").decode("latin-1")
        check = signed.answered
        if len(answer) < LARGE_BYTES:
            proven = check(reply.status, answer, signature)
        else:
            proven = await asyncio.to_thread(check, reply.status, answer, signature)
        if not proven:
            said = answer[:_SHOWN_MAX].decode("utf-8", "replace") if reply.status >= 400 else ""
            raise Refused(f"{path}: HTTP {reply.status}, not signed with our secret {said}".strip())
        return reply, answer

    def _signed(self, method: str, path: str, body: bytes, more: str) -> tuple[Signed, bytes]:
        """A request's signature, and the request as it is sent."""
        signed = self._signatures.sign(method, path, body)
        head = encode_lines((
            f"{method} {path} HTTP/1.1", f"host: {self._origin.authority}",
            f"{SIGNATURE_HEADER}: {signed.header}", f"content-length: {len(body)}",
        ))  # fmt: skip
        return signed, b"%b%b\r\n%b" % (head, more.encode("latin-1"), body)

    async def ask(
        self,
        path: str,
        body: bytes,
        waits: Waits = _ASK_WAITS,
        bytes_max: int = ANSWER_BYTES_MAX,
        method: str = "POST",
    ) -> bytes:
        """The body of an answer.

        Raises:
            ClientError: the other process cannot be reached.
            Refused: it answered otherwise than 200.
        """
        reply, answer = await self.exchange(method, path, body, waits, bytes_max)
        if reply.status != 200:
            raise Refused(f"{path}: HTTP {reply.status}")
        return answer
