"""Algorithms are named in the cryptographic suite alone, and no banned package is installed."""

from __future__ import annotations

import ast
import re

from tests.house.tree import ROOT, modules, name_of, parsed

LIBRARIES = {"hashlib", "hmac", "cryptography", "argon2"}
SEAM = "infra/security/"
ELSEWHERE = {
    "providers/signing.py": "the clouds prescribe how their requests are signed",
    "cli/audit_verify.py": "one file that runs without this package",
}
"""Why these name algorithms themselves; migrations do, too, as they were then."""
BANNED = {"gmssl", "pysmx", "snowland-smx", "pysm4", "sm-crypto", "sm-py-bc", "pycrypto"}
WEAK = {"md5", "sha1"}


def test_no_module_but_the_suite_names_an_algorithm() -> None:
    found = set()
    for path in modules():
        name = name_of(path)
        if name.startswith((SEAM, "infra/migrations/")):
            continue
        for node in ast.walk(parsed(path)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if {one.partition(".")[0] for one in names} & LIBRARIES:
                found.add(name)
    assert found == ELSEWHERE.keys()


def test_weak_digests_are_called_nowhere_but_where_a_protocol_prescribes_them() -> None:
    found = set()
    for path in modules():
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute) and node.attr.lower() in WEAK:
                found.add(name_of(path))
            if isinstance(node, ast.Call):
                found |= {
                    name_of(path)
                    for one in node.args
                    if isinstance(one, ast.Constant) and one.value in WEAK
                }
    assert found == {"infra/security/prescribed.py"}, "HMAC-SHA1 of one-time passwords (RFC 6238)"


def test_no_banned_package_is_locked() -> None:
    for lock in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / lock).read_text("utf-8")
        locked = set(re.findall(r"^([A-Za-z0-9._-]+)==", text, re.MULTILINE))
        assert locked and not {one.lower() for one in locked} & BANNED
