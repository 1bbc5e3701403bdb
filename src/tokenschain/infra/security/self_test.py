"""Known-answer tests of a suite's algorithms, before a process works with them.

The answers are those of the standards: FIPS 180-4, RFC 4231, NIST's GCM vectors, GB/T 32905,
RFC 8998 and GB/T 32918.5.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from cryptography.exceptions import InvalidTag

from tokenschain.infra.security.sm2 import BadSm2, Sm2Missing, Sm2PrivateKey
from tokenschain.infra.security.suite import DUAL, GM, INTERNATIONAL, Suite, suite_named

_ABC = b"abc"
_SM2_SCALAR = "3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8"
_SM2_SIGNATURE = (
    "3046022100f5a03b0648d2c4630eeac513e1bb81a15944da3827d5b74143ac7eaceee720b3"
    "022100b1b6aa29df212fd8763182bc0d421ca1bb9038fd1f7f42d4840b69c485bbc1aa"
)
_SM2_WRAPPED = (
    "0404ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73"
    "e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0"
    "59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766"
    "21886ca989ca9c7d58087307ca93092d651efa"
)


class SelfTestFailed(Exception):
    """An algorithm does not give the answers of its standard: nothing may be started with it."""


class TestedAlgorithm(NamedTuple):
    """What one test found."""

    algorithm: str
    by: str
    """`known answer`, or the program that was asked beside us."""
    passed: bool


def checked(suite: Suite) -> Suite:
    """The suite, once it has given the right answers.

    Raises:
        SelfTestFailed: it did not; the text names the algorithms.
    """
    failed = [one.algorithm for one in known_answers(suite) if not one.passed]
    if failed:
        raise SelfTestFailed(
            f"the self test of {', '.join(failed)} failed: nothing is started with the suite "
            f"{suite.name}; see `tokenschain crypto selftest`"
        )
    return suite


def suite_in_force(name: str) -> Suite:
    """The suite of the setting `crypto.suite`, once all that it works with gave the right answers.

    Raises:
        SelfTestFailed: see `checked`.
    """
    if name == DUAL:
        checked(GM)
    return checked(suite_named(name))


def failed(name: str) -> list[str]:
    """The algorithms that the setting `crypto.suite` stands for and that do not give the right
    answers now."""
    suites = {suite_named(name), GM} if name == DUAL else {suite_named(name)}
    return sorted(
        {one.algorithm for suite in suites for one in known_answers(suite) if not one.passed}
    )


def known_answers(suite: Suite) -> list[TestedAlgorithm]:
    """What the tests of a suite's algorithms find."""
    return [
        TestedAlgorithm(name, "known answer", _holds(test)) for name, test in _TESTS[suite.name]()
    ]


def _holds(test: Callable[[], bool]) -> bool:
    try:
        return test()
    except (ValueError, InvalidTag, Sm2Missing, OSError):
        return False


def _international() -> Iterator[tuple[str, Callable[[], bool]]]:
    suite = INTERNATIONAL
    yield (
        "SHA-256",
        lambda: (
            suite.hex_digest(_ABC)
            == ("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        ),
    )
    yield (
        "HMAC-SHA256",
        lambda: (
            suite.mac(b"\x0b" * 20, b"Hi There").hex()
            == ("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        ),
    )
    yield "AES-256-GCM", lambda: _seals(suite, bytes(32), bytes(12), bytes(16), None, (
        "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    ))  # fmt: skip


def _gm() -> Iterator[tuple[str, Callable[[], bool]]]:
    text = b"".join(bytes([one]) * 8 for one in b"\xaa\xbb\xcc\xdd\xee\xff\xee\xaa")
    yield (
        "SM3",
        lambda: (
            GM.hex_digest(_ABC)
            == ("66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0")
        ),
    )
    yield "HMAC-SM3", lambda: GM.mac(b"key", _ABC) != GM.mac(b"kez", _ABC) == _hmac_by_hand(b"kez")
    yield "SM4-GCM", lambda: _seals(
        GM, bytes.fromhex("0123456789abcdeffedcba9876543210"),
        bytes.fromhex("00001234567800000000abcd"), text,
        bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
        "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
        "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
        "83de3541e4c2b58177e065a9bf7b62ec",
    )  # fmt: skip
    yield "SM2", _sm2


_TESTS = {INTERNATIONAL.name: _international, GM.name: _gm}


def _hmac_by_hand(key: bytes) -> bytes:
    """HMAC as RFC 2104 writes it, over our SM3: there is no vector in the standard's text."""
    block = key.ljust(64, b"\0")
    inner = GM.digest(bytes(one ^ 0x36 for one in block) + _ABC)
    return GM.digest(bytes(one ^ 0x5C for one in block) + inner)


def _seals(
    suite: Suite, key: bytes, nonce: bytes, text: bytes, data: bytes | None, sealed: str
) -> bool:
    """Whether a text is sealed so, comes out again, and does not once a bit has changed."""
    aead, found = suite.aead(key), bytes.fromhex(sealed)
    if aead.encrypt(nonce, text, data) != found or aead.decrypt(nonce, found, data) != text:
        return False
    try:
        aead.decrypt(nonce, found[:-1] + bytes([found[-1] ^ 1]), data)
    except InvalidTag:
        return True
    return False


def _sm2() -> bool:
    key = Sm2PrivateKey(bytes.fromhex(_SM2_SCALAR))
    public, signature = key.public_key(), bytes.fromhex(_SM2_SIGNATURE)
    wrapped = bytes.fromhex(_SM2_WRAPPED)
    if not public.is_signed(b"message digest", signature) or public.is_signed(_ABC, signature):
        return False
    if not public.is_signed(_ABC, key.sign(_ABC)) or key.unwrap(wrapped) != b"encryption standard":
        return False
    try:
        key.unwrap(wrapped[:-1] + bytes([wrapped[-1] ^ 1]))
    except BadSm2:
        return True
    return False
