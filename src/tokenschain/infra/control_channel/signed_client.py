"""HTTP client whose requests are signed (HMAC) with the platform's internal secret."""

from __future__ import annotations

from tokenschain.infra.control_channel.protocol import SIGNATURE_HEADER
from tokenschain.infra.security.suite import Signer
from tokenschain.wire.client import HttpClient, Origin, Reply, Waits

ANSWER_BYTES_MAX = 16_777_216
_ASK_WAITS = Waits(connect_max_s=0.5, first_byte_max_s=10.0, total_max_s=15.0)


class Refused(Exception):
    """The other process answered, but not with what was asked for."""


class SignedClient:
    """Asks another process of the platform."""

    def __init__(self, url: str, signer: Signer, client: HttpClient) -> None:
        self._origin = Origin.of(url)
        self._signer = signer
        self._client = client

    async def exchange(
        self, method: str, path: str, body: bytes, waits: Waits, bytes_max: int, more: str = ""
    ) -> tuple[Reply, bytes]:
        """One exchange: the reply, whatever its status, and its body.

        Args:
            more: header lines, each with its line end.

        Raises:
            ClientError: the other process cannot be reached.
        """
        # The signature covers method, path and body: a recorded request proves nothing new,
        # since replaying it is harmless by design (idempotent).
        signature = self._signer.sign(f"{method} {path}\n".encode() + body)
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: {self._origin.authority}\r\n"
            f"{SIGNATURE_HEADER}: {signature}\r\ncontent-length: {len(body)}\r\n{more}\r\n"
        )
        reply = await self._client.open(self._origin, head.encode("latin-1") + body, waits)
        return reply, await reply.read(bytes_max)

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

    def signed(self, body: bytes, signature: str) -> bool:
        """Whether the other process signed this body."""
        return self._signer.signed(body, signature)
