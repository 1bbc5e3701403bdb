"""Certificates of a PEM file: from when until when each is valid; the national cipher suites."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography import x509


class Validity(NamedTuple):
    """When a certificate may be used; UTC."""

    begins: datetime.datetime
    ends: datetime.datetime


def validities(path: Path) -> list[Validity]:
    """Of each certificate in the file, in order.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no certificate.
    """
    found = x509.load_pem_x509_certificates(path.read_bytes())
    return [Validity(one.not_valid_before_utc, one.not_valid_after_utc) for one in found]


def gm_cipher_suites() -> list[str]:
    """The cipher suites of RFC 8998 that TLS offers here; none before OpenSSL 4."""
    offered = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).get_ciphers()
    return [one["name"] for one in offered if "SM4" in one["name"]]
