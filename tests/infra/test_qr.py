"""QR codes: what is drawn is the code, square by square."""

from __future__ import annotations

import re

import segno

from tokenschain.infra import qr

URI = "otpauth://totp/TokensChain%3Aann%40example.com?secret=GEZDGNBVGY3TQOJQ&issuer=TokensChain"


def _squares(picture: qr.QrPicture) -> set[tuple[int, int]]:
    """The dark squares of a path, without the empty ones around."""
    found = set()
    for x, y, width, back in re.findall(r"M(\d+),(\d+)h(\d+)v1h-(\d+)z", picture.path):
        assert width == back
        found |= {(int(x) + n - qr.QUIET, int(y) - qr.QUIET) for n in range(int(width))}
    return found


def test_the_path_has_just_the_dark_squares_with_room_around() -> None:
    picture = qr.draw(URI)
    assert picture is not None
    matrix = segno.make(URI, error="m", micro=False).matrix
    dark = {(x, y) for y, row in enumerate(matrix) for x, bit in enumerate(row) if bit}
    assert _squares(picture) == dark
    assert picture.side == len(matrix) + 2 * qr.QUIET
    assert re.sub(r"M\d+,\d+h\d+v1h-\d+z", "", picture.path) == "", "nothing else is in it"


def test_what_no_camera_would_read_is_not_drawn() -> None:
    assert qr.draw("") is None
    assert qr.draw("x" * (qr.TEXT_CHARACTERS_MAX + 1)) is None
    assert qr.draw("长" * qr.TEXT_CHARACTERS_MAX) is not None, "1,800 bytes fit"
    assert qr.draw("🙂" * qr.TEXT_CHARACTERS_MAX) is None, "2,400 bytes do not"
