"""SM2 signatures checked by plain numbers (GB/T 32918.2, 7): an implementation beside libcrypto."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tokenschain.infra.security.gm import sm3

_P = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF00000000FFFFFFFFFFFFFFFF
_A = _P - 3
_B = 0x28E9FA9E9D9F5E344D5A9E4BCF6509A7F39789F515AB8F92DDBCBD414D940E93
_N = 0xFFFFFFFEFFFFFFFFFFFFFFFFFFFFFFFF7203DF6B21C6052B53BBF40939D54123
_G = (
    0x32C4AE2C1F1981195F9904466A39C9948FE30BBFF2660BE1715A4589334C74C7,
    0xBC3736A2F4F6779C59BDCEE36B692153D0A9877CC62A474002DF32E52139F0A0,
)
_Point = tuple[int, int] | None


def is_signed(point: bytes, message: bytes, signature: bytes, signer_id: bytes) -> bool:
    """Whether r and s are of the message, the key and the signer's ID."""
    key = int.from_bytes(point[1:33]), int.from_bytes(point[33:])
    r, s = decode_dss_signature(signature)
    t = (r + s) % _N
    if not (0 < r < _N and 0 < s < _N and t):
        return False
    curve = b"".join(one.to_bytes(32) for one in (_A, _B, *_G, *key))
    about = sm3((8 * len(signer_id)).to_bytes(2) + signer_id + curve)
    e = int.from_bytes(sm3(about + message))
    found = _sum(_times(s, _G), _times(t, key))
    return found is not None and (e + found[0]) % _N == r


def _sum(p: _Point, q: _Point) -> _Point:
    if p is None or q is None:
        return p or q
    if p[0] == q[0] and (p[1] + q[1]) % _P == 0:
        return None
    if p == q:
        slope = (3 * p[0] * p[0] + _A) * pow(2 * p[1], -1, _P)
    else:
        slope = (q[1] - p[1]) * pow(q[0] - p[0], -1, _P)
    x = (slope * slope - p[0] - q[0]) % _P
    return x, (slope * (p[0] - x) - p[1]) % _P


def _times(count: int, point: _Point) -> _Point:
    found: _Point = None
    while count:
        if count & 1:
            found = _sum(found, point)
        point, count = _sum(point, point), count >> 1
    return found
