"""HTTP client whose requests are signed with HMAC-SHA256."""

from __future__ import annotations

from tokenschain.infra.control_channel.protocol import SIGNATURE_HEADER
from tokenschain.infra.security import secrets
from tokenschain.wire.client import HttpClient, Origin, Waits

_ASK_WAITS = Waits(connect_max_s=0.5, first_byte_max_s=10.0, total_max_s=15.0)


ANSWER_BYTES_MAX = 16_777_216


class SignedClient:
    """Asks another process of the platform, signed by the internal secret."""

    def __init__(self, url: str, secret: str, client: HttpClient) -> None:
        self._origin = Origin.of(url)
        self._secret = secret
        self._client = client

    async def ask(self, path: str, body: bytes) -> bytes:
        """The answer to a POST.

        Raises:
            ClientError: it cannot be reached.
            Refused: it answered otherwise than 200.
        """
        signature = secrets.sign(self._secret, f"{path}\n".encode() + body)
        head = (
            f"POST {path} HTTP/1.1\r\nhost: {self._origin.authority}\r\n"
            f"{SIGNATURE_HEADER}: {signature}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        reply = await self._client.open(self._origin, head.encode("latin-1") + body, _ASK_WAITS)
        answer = await reply.read(ANSWER_BYTES_MAX)
        if reply.status != 200:
            raise Refused(f"{path}: HTTP {reply.status}")
        return answer


class Refused(Exception):
    """Control answered, but not with what was asked for."""
