"""Key store of a cryptographic device by its SDF library (GM/T 0018): the device's key encryption
key never leaves it, and wraps a session key that seals one secret with SM4-CBC."""

from __future__ import annotations

import base64
import binascii
import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tokenschain.infra.security.gm import sm3
from tokenschain.infra.security.secret_files import WRAPPED, SecretFileRefused, body_of

KIND = "sdf"
_SM4_ECB, _SM4_CBC = 0x401, 0x402
"""Algorithm identifiers (GM/T 0006): SGD_SM4_ECB, SGD_SM4_CBC."""
_KEY_BITS, _BLOCK_BYTES, _CHECK_BYTES = 128, 16, 32
_WRAPPED_BYTES_MAX, _TEXT_BYTES_MAX = 256, 512
_HANDLE, _BYTES, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint
_HANDLE_OUT, _INT_OUT = ctypes.POINTER(_HANDLE), ctypes.POINTER(_INT)
_FUNCTIONS: dict[str, list[object]] = {
    "SDF_OpenDevice": [_HANDLE_OUT],
    "SDF_CloseDevice": [_HANDLE],
    "SDF_OpenSession": [_HANDLE, _HANDLE_OUT],
    "SDF_CloseSession": [_HANDLE],
    "SDF_GenerateKeyWithKEK": [_HANDLE, _INT, _INT, _INT, _BYTES, _INT_OUT, _HANDLE_OUT],
    "SDF_ImportKeyWithKEK": [_HANDLE, _INT, _INT, _BYTES, _INT, _HANDLE_OUT],
    "SDF_DestroyKey": [_HANDLE, _HANDLE],
    "SDF_Encrypt": [_HANDLE, _HANDLE, _INT, _BYTES, _BYTES, _INT, _BYTES, _INT_OUT],
    "SDF_Decrypt": [_HANDLE, _HANDLE, _INT, _BYTES, _BYTES, _INT, _BYTES, _INT_OUT],
}
_REASONS = {
    0x01000001: "the device failed for an unknown reason",
    0x01000002: "the device does not have this function",
    0x01000003: "the device does not answer",
    0x01000004: "the device is broken",
    0x01000005: "the device cannot be opened",
    0x01000006: "the device takes no more sessions",
    0x01000007: "the device does not permit the use of its private key",
    0x01000008: "the device has no key encryption key of this number",
    0x01000009: "the device does not have this algorithm",
}
"""Of SDR_BASE + 1 to 9 (GM/T 0018, annex A)."""


class SdfStore:
    """See `secret_files.KeyStore`. A session is opened for each secret, and closed again."""

    def __init__(self, library: Path, key_index: int) -> None:
        """
        Args:
            key_index: number of the device's key encryption key.

        Raises:
            SecretFileRefused: it is no such library.
        """
        self._key_index = key_index
        try:
            self._called = ctypes.CDLL(str(library))
            for name, takes in _FUNCTIONS.items():
                function = getattr(self._called, name)
                function.restype, function.argtypes = ctypes.c_int, takes
        except (OSError, AttributeError) as error:
            raise SecretFileRefused(f"{library} is no SDF library: {error}") from None

    def wrap(self, secret: str) -> str:
        """See `KeyStore`."""
        data = secret.encode()
        padding = -(_CHECK_BYTES + len(data) + 1) % _BLOCK_BYTES
        # CBC has no tag: a digest before the secret tells what was changed or opened wrongly.
        text = sm3(data) + data + b"\x80" + bytes(padding)
        if len(text) > _TEXT_BYTES_MAX:
            raise SecretFileRefused("the secret is too long")
        iv = os.urandom(_BLOCK_BYTES)
        with self._session() as session:
            room, length = ctypes.create_string_buffer(_WRAPPED_BYTES_MAX), _INT(_WRAPPED_BYTES_MAX)
            key = _HANDLE()
            self._done(self._called.SDF_GenerateKeyWithKEK(
                session, _KEY_BITS, _SM4_ECB, self._key_index, room, ctypes.byref(length),
                ctypes.byref(key),
            ))  # fmt: skip
            sealed = self._turned("SDF_Encrypt", session, key, iv, text)
        parts = (room.raw[: length.value], iv, sealed)
        body = ":".join(base64.b64encode(part).decode() for part in parts)
        return f"{WRAPPED}{KIND}:{self._key_index}:{body}"

    def unwrap(self, line: str) -> str:
        """See `KeyStore`."""
        number, *encoded = body_of(line, KIND).split(":")
        try:
            wrapped, iv, sealed = (base64.b64decode(part, validate=True) for part in encoded)
            index = int(number)
        except (ValueError, binascii.Error):
            raise SecretFileRefused("a line that the key store `sdf` did not write") from None
        if len(iv) != _BLOCK_BYTES or not 0 < len(sealed) <= _TEXT_BYTES_MAX:
            raise SecretFileRefused("a line that the key store `sdf` did not write")
        with self._session() as session:
            key = _HANDLE()
            self._done(self._called.SDF_ImportKeyWithKEK(
                session, _SM4_ECB, index, wrapped, len(wrapped), ctypes.byref(key)
            ))  # fmt: skip
            text = self._turned("SDF_Decrypt", session, key, iv, sealed)
        check, padded = text[:_CHECK_BYTES], text[_CHECK_BYTES:]
        data = padded.rstrip(b"\0").removesuffix(b"\x80")
        if sm3(data) != check:
            raise SecretFileRefused("it is another device or key, or the line was changed")
        return data.decode()

    def _turned(
        self, function: str, session: ctypes.c_void_p, key: ctypes.c_void_p, iv: bytes, data: bytes
    ) -> bytes:
        """Encrypt or decrypt with a session key, which is destroyed then."""
        room, length = ctypes.create_string_buffer(len(data)), _INT(len(data))
        # The device writes the next block's into it.
        state = ctypes.create_string_buffer(iv, len(iv))
        try:
            self._done(getattr(self._called, function)(
                session, key, _SM4_CBC, state, data, len(data), room, ctypes.byref(length)
            ))  # fmt: skip
        finally:
            self._called.SDF_DestroyKey(session, key)
        return room.raw[: length.value]

    @contextmanager
    def _session(self) -> Iterator[ctypes.c_void_p]:
        device, session = _HANDLE(), _HANDLE()
        self._done(self._called.SDF_OpenDevice(ctypes.byref(device)))
        try:
            self._done(self._called.SDF_OpenSession(device, ctypes.byref(session)))
            try:
                yield session
            finally:
                self._called.SDF_CloseSession(session)
        finally:
            self._called.SDF_CloseDevice(device)

    def _done(self, code: int) -> None:
        if code:
            number = code & 0xFFFFFFFF
            why = _REASONS.get(number, "the device refused it")
            raise SecretFileRefused(f"{why} (code 0x{number:08x})")
