"""Signatures between processes: requests carry time and nonce, answers are bound to them.

What is signed of a request is its head, with the length and digest of its body: a stranger is
known as one before the body is read. A request is believed once and within `WINDOW_S`; an answer
is believed by the one request it was given to. So whoever records what passes between two
processes can neither ask again nor answer in another's place, with or without TLS.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokenschain.core.errors import ApiError
from tokenschain.infra.security.secrets import same
from tokenschain.infra.security.suite import Signer, Suite

WINDOW_S = 30.0
"""How far the clocks of two processes may be apart, the way of a request included."""
NONCES_MAX = 250_000
"""Requests remembered: 4,000 a second over the window in both directions, some 20 MB."""
_NONCE_BYTES = 8
LARGE_BYTES = 262_144
"""Bodies and answers from this size on are hashed beside the event loop."""
_HEADER = re.compile(
    r"([0-9]{1,15}) ([0-9a-f]{16}) ([0-9]{1,12}) ([0-9a-f]{64}) ([0-9a-f]{64})", re.ASCII
)
_DISK = b"kept on disk\n"


class BadSignature(ApiError):
    """A request is not to be believed; the text says why, and nothing to strangers."""

    def __init__(self, why: str) -> None:
        super().__init__("invalid_api_key", f"The request is not believed: {why}.")


class Signed(NamedTuple):
    """A request that was signed, here or elsewhere."""

    nonce: str
    signer: Signer
    """Of the secret that signed the request, and signs the answer."""
    header: str

    def answer(self, status: int, body: bytes) -> str:
        """The signature of the answer."""
        return self.signer.sign(self._message(status, body))

    def answered(self, status: int, body: bytes, signature: str) -> bool:
        """Whether this is the other process' answer to this very request."""
        return self.signer.signed(self._message(status, body), signature)

    def _message(self, status: int, body: bytes) -> bytes:
        return f"answer {self.nonce} {status}\n".encode() + body


class _Head(NamedTuple):
    """What a request's header says and its signature proves."""

    at_ms: int
    nonce: str
    length: int
    digest: str
    """Of the body."""

    def message(self, method: str, path: str) -> bytes:
        """What is signed."""
        said = f"request {self.at_ms} {self.nonce} {self.length} {self.digest}"
        return f"{said}\n{method} {path}\n".encode()


class Signatures:
    """Signs requests and checks them, by the secrets that processes share."""

    def __init__(
        self,
        suite: Suite,
        secrets: Callable[[], Sequence[str]],
        unix_time: Callable[[], float],
    ) -> None:
        """
        Args:
            secrets: the one in force first, then others that are accepted.
        """
        self._suite = suite
        self._secrets = secrets
        self._unix_time = unix_time
        self._seen: Sequence[str] = ()
        self._ring: tuple[Signer, ...] = ()
        self._present: tuple[Signer, ...] = ()
        """Those of the secret in force."""
        self._nonces = Nonces(NONCES_MAX)
        self.former_at_s: float | None = None
        """Unix time of the last request by a secret that is not in force any more."""

    def sign(self, method: str, path: str, body: bytes) -> Signed:
        """Sign a request; `header` goes with it."""
        head = _Head(
            int(self._unix_time() * 1e3), os.urandom(_NONCE_BYTES).hex(), len(body),
            self._suite.hex_digest(body),
        )  # fmt: skip
        signer = self._signers()[0]
        code = signer.sign(head.message(method, path))
        return Signed(head.nonce, signer, " ".join((*map(str, head), code)))

    def check_head(self, method: str, path: str, header: str) -> None:
        """Whether to wait for a request's body; `check` says whether the request is believed.

        Raises:
            BadSignature: see `check`.
        """
        head, _ = self._read(method, path, header)
        if self._nonces.is_known(head.nonce, head.at_ms / 1e3):
            raise BadSignature("it came before")

    async def check(self, method: str, path: str, body: bytes, header: str) -> Signed:
        """The request, once it is proven; a large body does not keep the event loop waiting.

        Raises:
            BadSignature: it is not signed with a secret of ours, too old, or came before.
        """
        head, signer = self._read(method, path, header)
        if len(body) != head.length:
            digest = ""
        elif len(body) < LARGE_BYTES:
            digest = signer.digest(body)
        else:
            digest = await asyncio.to_thread(signer.digest, body)
        return self._believe(head, signer, digest, header)

    def _read(self, method: str, path: str, header: str) -> tuple[_Head, Signer]:
        """What the header says, and whose secret signed it just now."""
        found = _HEADER.fullmatch(header)
        if found is None:
            raise BadSignature("it is not signed")
        head = _Head(int(found[1]), found[2], int(found[3]), found[4])
        message = head.message(method, path)
        signer = next((one for one in self._signers() if one.signed(message, found[5])), None)
        if signer is None:
            raise BadSignature("the signature is wrong")
        apart_s = self._unix_time() - head.at_ms / 1e3
        if abs(apart_s) > WINDOW_S:
            raise BadSignature(
                f"it is {apart_s:.0f} s old; set the clocks of both machines (NTP): "
                f"{WINDOW_S:g} s are allowed"
            )
        return head, signer

    def _believe(self, head: _Head, signer: Signer, digest: str, header: str) -> Signed:
        if not same(digest, head.digest):
            raise BadSignature("the signature is wrong")
        now = self._unix_time()
        if not self._nonces.is_new(head.nonce, head.at_ms / 1e3, now):
            raise BadSignature("it came before")
        if signer not in self._present:
            self.former_at_s = now
        return Signed(head.nonce, signer, header)

    def of_disk(self, body: bytes) -> str:
        """Of what this process keeps on disk for itself."""
        return self._signers()[0].sign(_DISK + body)

    def is_of_disk(self, body: bytes, signature: str) -> bool:
        """Whether a process with our secret kept this."""
        return any(signer.signed(_DISK + body, signature) for signer in self._signers())

    def _signers(self) -> tuple[Signer, ...]:
        secrets = self._secrets()
        if secrets is not self._seen:
            # Whoever else writes with another suite is believed, and answered by it.
            suites = tuple(self._suite.readers())
            self._ring = tuple(Signer(suite, secret) for secret in secrets for suite in suites)
            self._present = self._ring[: len(suites)]
            self._seen = secrets
        return self._ring


class Nonces:
    """Nonces of the requests of a window, by their time; bounded."""

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._slots: dict[int, set[int]] = {}

    def is_known(self, nonce: str, at_s: float) -> bool:
        """Whether a nonce was noted; it is not by this."""
        return int(nonce, 16) in self._slots.get(int(at_s // WINDOW_S), ())

    def is_new(self, nonce: str, at_s: float, now_s: float) -> bool:
        """Note a nonce; false when it is known, or when there is no room to know it: what
        cannot be remembered cannot be believed."""
        slot = int(at_s // WINDOW_S)
        # A request of a slot is refused as too old from a window after the slot's end.
        for old in [one for one in self._slots if (one + 2) * WINDOW_S < now_s]:
            del self._slots[old]
        nonces = self._slots.setdefault(slot, set())
        value = int(nonce, 16)
        if value in nonces or sum(map(len, self._slots.values())) >= self._count_max:
            return False
        nonces.add(value)
        return True
