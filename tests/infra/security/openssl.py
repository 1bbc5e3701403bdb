"""The openssl command, as another implementation to compare with."""

from __future__ import annotations

import subprocess


def openssl(*arguments: str, given: bytes = b"") -> bytes:
    done = subprocess.run(["openssl", *arguments], input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
