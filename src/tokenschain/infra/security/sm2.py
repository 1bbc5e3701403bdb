"""SM2 signatures and key wrapping (GB/T 32918, GM/T 0009), by the machine's libcrypto.

OpenSSL 3.0 or later, or Tongsuo's libcrypto in its place. The signer's ID is always given:
OpenSSL takes an empty one otherwise, which no other implementation does.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import ctypes.util
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

SIGNER_ID = b"1234567812345678"
"""The ID where none was agreed (GM/T 0009, 10)."""
WRAPPED_BYTES_MAX = 4_096
_ORDER = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
_POINT_BYTES, _CHECK_BYTES, _SCALAR_BYTES = 65, 32, 32
_UNCOMPRESSED = b"\x04"
_SIGNATURE_BYTES_MAX = 80
_DER_BYTES_MAX = 65_536
_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
# What stands before a scalar in PKCS#8: version 0, id-ecPublicKey with the curve
# 1.2.156.10197.1.301, then an ECPrivateKey (RFC 5915) without its public key.
_ALGORITHM = bytes.fromhex("301306072a8648ce3d020106082a811ccf5501822d")
_PKCS8_HEAD = bytes.fromhex("3041020100") + _ALGORITHM + bytes.fromhex("042730250201010420")
_SPKI_HEAD = bytes.fromhex("3059") + _ALGORITHM + bytes.fromhex("034200")


class Sm2Missing(Exception):
    """This machine has no libcrypto with SM2; the text says what to do."""


class BadSm2(ValueError):
    """A key or a wrapped text is none, or was changed."""


class _Library(NamedTuple):
    """The loaded library, and its version as it says it."""

    functions: ctypes.CDLL
    version: str


_POINTER, _BYTES, _SIZE, _INT = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
_SIZE_OUT = ctypes.POINTER(ctypes.c_size_t)
_FUNCTIONS: dict[str, tuple[object, list[object]]] = {
    "OpenSSL_version": (_BYTES, [_INT]),
    "ERR_clear_error": (None, []),
    "EVP_sm3": (_POINTER, []),
    "EVP_MD_CTX_new": (_POINTER, []),
    "EVP_MD_CTX_free": (None, [_POINTER]),
    "EVP_MD_CTX_set_pkey_ctx": (None, [_POINTER, _POINTER]),
    "EVP_PKEY_free": (None, [_POINTER]),
    "EVP_PKEY_CTX_new_from_name": (_POINTER, [_POINTER, _BYTES, _BYTES]),
    "EVP_PKEY_CTX_new_from_pkey": (_POINTER, [_POINTER, _POINTER, _BYTES]),
    "EVP_PKEY_CTX_free": (None, [_POINTER]),
    "EVP_PKEY_CTX_set1_id": (_INT, [_POINTER, _BYTES, _INT]),
    "EVP_PKEY_keygen_init": (_INT, [_POINTER]),
    "EVP_PKEY_generate": (_INT, [_POINTER, ctypes.POINTER(_POINTER)]),
    "EVP_PKEY_public_check": (_INT, [_POINTER]),
    "EVP_PKEY_is_a": (_INT, [_POINTER, _BYTES]),
    "EVP_DigestSignInit": (_INT, [_POINTER, _POINTER, _POINTER, _POINTER, _POINTER]),
    "EVP_DigestSign": (_INT, [_POINTER, _BYTES, _SIZE_OUT, _BYTES, _SIZE]),
    "EVP_DigestVerifyInit": (_INT, [_POINTER, _POINTER, _POINTER, _POINTER, _POINTER]),
    "EVP_DigestVerify": (_INT, [_POINTER, _BYTES, _SIZE, _BYTES, _SIZE]),
    "EVP_PKEY_encrypt_init": (_INT, [_POINTER]),
    "EVP_PKEY_encrypt": (_INT, [_POINTER, _BYTES, _SIZE_OUT, _BYTES, _SIZE]),
    "EVP_PKEY_decrypt_init": (_INT, [_POINTER]),
    "EVP_PKEY_decrypt": (_INT, [_POINTER, _BYTES, _SIZE_OUT, _BYTES, _SIZE]),
    "d2i_AutoPrivateKey": (_POINTER, [_POINTER, ctypes.POINTER(_BYTES), ctypes.c_long]),
    "d2i_PUBKEY": (_POINTER, [_POINTER, ctypes.POINTER(_BYTES), ctypes.c_long]),
    "i2d_PUBKEY": (_INT, [_POINTER, ctypes.POINTER(_BYTES)]),
    "EVP_PKEY_get_bn_param": (_INT, [_POINTER, _BYTES, ctypes.POINTER(_POINTER)]),
    "BN_bn2binpad": (_INT, [_POINTER, _BYTES, _INT]),
    "BN_clear_free": (None, [_POINTER]),
}


def version() -> str:
    """Of the libcrypto that is used.

    Raises:
        Sm2Missing: there is none.
    """
    return _library().version


class Sm2PublicKey:
    """Checks signatures, and wraps keys for who has the private one."""

    __slots__ = ("__weakref__", "_handle", "_library")

    def __init__(self, point: bytes) -> None:
        """
        Args:
            point: 0x04, x and y: 65 bytes.

        Raises:
            BadSm2: it is no point of the curve.
            Sm2Missing: see `version`.
        """
        if len(point) != _POINT_BYTES or not point.startswith(_UNCOMPRESSED):
            raise BadSm2("a public key has 65 bytes and begins with 04")
        self._library = _library().functions
        self._handle = _decoded(self, self._library.d2i_PUBKEY, _SPKI_HEAD + point)
        with _freed(self._library.EVP_PKEY_CTX_free, self._new_context()) as context:
            if self._library.EVP_PKEY_public_check(context) != 1:
                self._library.ERR_clear_error()
                raise BadSm2("it is no point of the curve")

    @classmethod
    def from_pem(cls, pem: bytes) -> Sm2PublicKey:
        """The key of a `PUBLIC KEY` (SubjectPublicKeyInfo).

        Raises:
            BadSm2: it is no SM2 key.
        """
        der = _from_pem(pem, "PUBLIC KEY")
        if not der.startswith(_SPKI_HEAD):
            raise BadSm2("it is no SM2 key")
        return cls(der.removeprefix(_SPKI_HEAD))

    def point(self) -> bytes:
        """0x04, x and y."""
        return _point_of(self._library, self._handle)

    def to_pem(self) -> bytes:
        """As SubjectPublicKeyInfo."""
        return _to_pem(_SPKI_HEAD + self.point(), "PUBLIC KEY")

    def is_signed(self, message: bytes, signature: bytes, signer_id: bytes = SIGNER_ID) -> bool:
        """Whether a signature is right; false as well where it is none."""
        called = self._library
        with _signing(called, self._new_context(), signer_id) as state:
            _done(called, called.EVP_DigestVerifyInit(state, None, called.EVP_sm3(), None,
                                                      self._handle))  # fmt: skip
            found = called.EVP_DigestVerify(state, signature, len(signature), message, len(message))
            called.ERR_clear_error()
            return bool(found == 1) and _is_der_signature(signature)

    def wrap(self, key: bytes) -> bytes:
        """Encrypt a short text, C1 C3 C2 (GB/T 32918.4): point, check value, encrypted text.

        Raises:
            BadSm2: it is empty or longer than `WRAPPED_BYTES_MAX`.
        """
        if not 0 < len(key) <= WRAPPED_BYTES_MAX:
            raise BadSm2(f"1 to {WRAPPED_BYTES_MAX} bytes are wrapped")
        called = self._library
        with _freed(called.EVP_PKEY_CTX_free, self._new_context()) as context:
            _done(called, called.EVP_PKEY_encrypt_init(context))
            return wrapped_of(_filled(called, called.EVP_PKEY_encrypt, context, key))

    def _new_context(self) -> int | None:
        found: int | None = self._library.EVP_PKEY_CTX_new_from_pkey(None, self._handle, None)
        return found


class Sm2PrivateKey:
    """Signs, and unwraps keys."""

    __slots__ = ("__weakref__", "_handle", "_library")

    def __init__(self, scalar: bytes) -> None:
        """
        Args:
            scalar: 32 bytes, from 1 to the curve's order - 2.

        Raises:
            BadSm2: it is none.
            Sm2Missing: see `version`.
        """
        if len(scalar) != _SCALAR_BYTES or not 0 < int.from_bytes(scalar) < _ORDER - 1:
            raise BadSm2("a private key is a number from 1 to the curve's order - 2")
        self._library = _library().functions
        self._handle = _decoded(self, self._library.d2i_AutoPrivateKey, _PKCS8_HEAD + scalar)

    @classmethod
    def generate(cls) -> Sm2PrivateKey:
        """A fresh key."""
        return cls.from_seed(os.urandom(_SCALAR_BYTES + 8))

    @classmethod
    def from_seed(cls, seed: bytes) -> Sm2PrivateKey:
        """The key that a secret stands for: always the same.

        Args:
            seed: at least 40 random bytes, so that no key is likelier than another.
        """
        if len(seed) < _SCALAR_BYTES + 8:
            raise BadSm2("a seed has at least 40 bytes")
        scalar = int.from_bytes(seed) % (_ORDER - 2) + 1
        return cls(scalar.to_bytes(_SCALAR_BYTES))

    @classmethod
    def from_pem(cls, pem: bytes) -> Sm2PrivateKey:
        """The key of a `PRIVATE KEY` (PKCS#8), as the openssl command writes it as well.

        Raises:
            BadSm2: it is no SM2 key.
        """
        der = _from_pem(pem, "PRIVATE KEY")
        # The scalar stands in an ECPrivateKey behind the algorithm: version 1, then 32 bytes.
        _, algorithm, inner = der.partition(_ALGORITHM + _OCTETS.to_bytes())
        at = inner.find(bytes.fromhex("0201010420"), 0, 8)
        if not algorithm or at < 0:
            raise BadSm2("it is no SM2 key")
        return cls(inner[at + 5 : at + 5 + _SCALAR_BYTES])

    def to_pem(self) -> bytes:
        """As PKCS#8, not encrypted."""
        called, number = self._library, _POINTER()
        _done(called, called.EVP_PKEY_get_bn_param(self._handle, b"priv", ctypes.byref(number)))
        with _freed(called.BN_clear_free, number) as held:
            scalar = ctypes.create_string_buffer(_SCALAR_BYTES)
            called.BN_bn2binpad(held, scalar, _SCALAR_BYTES)
            return _to_pem(_PKCS8_HEAD + scalar.raw, "PRIVATE KEY")

    def public_key(self) -> Sm2PublicKey:
        """The key that checks what this one signs."""
        return Sm2PublicKey(_point_of(self._library, self._handle))

    def sign(self, message: bytes, signer_id: bytes = SIGNER_ID) -> bytes:
        """SM2 with SM3: r and s in DER (GM/T 0009, 7.3)."""
        called = self._library
        with _signing(called, self._new_context(), signer_id) as state:
            _done(called, called.EVP_DigestSignInit(state, None, called.EVP_sm3(), None,
                                                    self._handle))  # fmt: skip
            return _filled(called, called.EVP_DigestSign, state, message, _SIGNATURE_BYTES_MAX)

    def unwrap(self, wrapped: bytes) -> bytes:
        """What was wrapped with the public key.

        Raises:
            BadSm2: it was changed, wrapped for another key, or nothing that was wrapped.
        """
        der = der_of(wrapped)
        called = self._library
        with _freed(called.EVP_PKEY_CTX_free, self._new_context()) as context:
            _done(called, called.EVP_PKEY_decrypt_init(context))
            return _filled(called, called.EVP_PKEY_decrypt, context, der)

    def _new_context(self) -> int | None:
        found: int | None = self._library.EVP_PKEY_CTX_new_from_pkey(None, self._handle, None)
        return found


@cache
def _library() -> _Library:
    """Found once, where the loader finds libraries (`LD_LIBRARY_PATH` first)."""
    why = "none was found"
    for name in filter(None, ("libcrypto.so.3", ctypes.util.find_library("crypto"))):
        try:
            functions = ctypes.CDLL(name)
            for function, (gives, takes) in _FUNCTIONS.items():
                found = getattr(functions, function)
                found.restype, found.argtypes = gives, takes
            _try(functions)
            return _Library(functions, functions.OpenSSL_version(0).decode())
        except (OSError, AttributeError, BadSm2) as error:
            why = f"{name}: {error}"
    raise Sm2Missing(
        f"SM2 needs the libcrypto of OpenSSL 3 (Debian: libssl3), or Tongsuo's ({why})"
    )


def _try(functions: ctypes.CDLL) -> None:
    """Whether SM2 was not left out when the library was built."""
    maker = functions.EVP_PKEY_CTX_new_from_name(None, b"SM2", None)
    if not maker:
        functions.ERR_clear_error()
        raise BadSm2("it was built without SM2")
    functions.EVP_PKEY_CTX_free(maker)


@contextmanager
def _freed(free: Callable[[object], None], handle: object) -> Iterator[object]:
    if not handle:
        raise MemoryError("libcrypto")
    try:
        yield handle
    finally:
        free(handle)


@contextmanager
def _signing(called: ctypes.CDLL, context: int | None, signer_id: bytes) -> Iterator[object]:
    """A digest state over a key's context, with the signer's ID."""
    with (
        _freed(called.EVP_PKEY_CTX_free, context) as held,
        _freed(called.EVP_MD_CTX_free, called.EVP_MD_CTX_new()) as state,
    ):
        _done(called, called.EVP_PKEY_CTX_set1_id(held, signer_id, len(signer_id)))
        called.EVP_MD_CTX_set_pkey_ctx(state, held)
        yield state


def _decoded(owner: object, decode: Callable[..., int | None], der: bytes) -> int:
    """The handle of a key, freed with its owner."""
    called = _library().functions
    at = _BYTES(der)
    handle = decode(None, ctypes.byref(at), len(der))
    called.ERR_clear_error()
    if not handle:
        raise BadSm2("it is no SM2 key")
    weakref.finalize(owner, called.EVP_PKEY_free, handle)
    if called.EVP_PKEY_is_a(handle, b"SM2") != 1:
        raise BadSm2("it is no SM2 key")
    return handle


def _done(called: ctypes.CDLL, result: int) -> None:
    if result <= 0:
        called.ERR_clear_error()
        raise BadSm2("libcrypto refused it")


def _filled(
    called: ctypes.CDLL,
    function: Callable[..., int],
    handle: object,
    data: bytes,
    bytes_max: int | None = None,
) -> bytes:
    """What a function writes, whose length it says first where no maximum is given."""
    length = ctypes.c_size_t(bytes_max or 0)
    if bytes_max is None:
        _done(called, function(handle, None, ctypes.byref(length), data, len(data)))
    room = ctypes.create_string_buffer(max(1, length.value))
    _done(called, function(handle, room, ctypes.byref(length), data, len(data)))
    return room.raw[: length.value]


def _point_of(called: ctypes.CDLL, handle: int) -> bytes:
    room = ctypes.create_string_buffer(_DER_BYTES_MAX)
    at = ctypes.cast(room, _BYTES)
    length = called.i2d_PUBKEY(handle, ctypes.byref(at))
    return room.raw[:length][-_POINT_BYTES:]


def _to_pem(der: bytes, label: str) -> bytes:
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join((f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", "")).encode()


def _from_pem(pem: bytes, label: str) -> bytes:
    _, begin, rest = pem.partition(f"-----BEGIN {label}-----".encode())
    body, end, _ = rest.partition(f"-----END {label}-----".encode())
    try:
        if begin and end and len(body) <= _DER_BYTES_MAX:
            return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        pass
    raise BadSm2(f"there is no {label} in it")


def wrapped_of(der: bytes) -> bytes:
    """C1 C3 C2 of libcrypto's sequence of x, y, C3 and C2."""
    x, y, check, text = _parts(der, (_INTEGER, _INTEGER, _OCTETS, _OCTETS))
    point = b"".join(one.lstrip(b"\0").rjust(_SCALAR_BYTES, b"\0") for one in (x, y))
    return _UNCOMPRESSED + point + check + text


def der_of(wrapped: bytes) -> bytes:
    """The reverse of `wrapped_of`."""
    at = _POINT_BYTES + _CHECK_BYTES
    if not at < len(wrapped) <= at + WRAPPED_BYTES_MAX or not wrapped.startswith(_UNCOMPRESSED):
        raise BadSm2("it is nothing that was wrapped")
    x, y = wrapped[1 : 1 + _SCALAR_BYTES], wrapped[1 + _SCALAR_BYTES : _POINT_BYTES]
    check, text = wrapped[_POINT_BYTES:at], wrapped[at:]
    numbers = b"".join(_element(_INTEGER, _unsigned(one)) for one in (x, y))
    return _element(_SEQUENCE, numbers + _element(_OCTETS, check) + _element(_OCTETS, text))


def _is_der_signature(signature: bytes) -> bool:
    """Whether it is the one DER form of two numbers: a signature has no second spelling."""
    try:
        numbers = _parts(signature, (_INTEGER, _INTEGER))
    except BadSm2:
        return False
    again = b"".join(_element(_INTEGER, _unsigned(one)) for one in numbers)
    return _element(_SEQUENCE, again) == signature


def _unsigned(number: bytes) -> bytes:
    """A number as the shortest INTEGER that is not negative."""
    short = number.lstrip(b"\0") or b"\0"
    return b"\0" + short if short[0] >= 0x80 else short


def _element(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes((tag, len(content))) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes((tag, 0x80 | len(length))) + length + content


def _parts(der: bytes, tags: tuple[int, ...]) -> list[bytes]:
    """The contents of a sequence of just these elements."""
    content, rest = _taken(der, _SEQUENCE)
    found = []
    for tag in tags:
        part, content = _taken(content, tag)
        found.append(part)
    if rest or content:
        raise BadSm2("more than was expected")
    return found


def _taken(der: bytes, tag: int) -> tuple[bytes, bytes]:
    if len(der) < 2 or der[0] != tag:
        raise BadSm2("no DER of the form expected")
    length, at = der[1], 2
    if length >= 0x80:
        at += length & 0x7F
        length = int.from_bytes(der[2:at])
    if at > 6 or len(der) < at + length:
        raise BadSm2("DER that is cut short")
    return der[at : at + length], der[at + length :]
