"""The whole platform in a network namespace without any route: it needs nothing from outside.

Only with `PROOFS=full`, and where network namespaces may be made.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import web
from tests.e2e.test_platform import MODEL, Platform
from tests.waiting import until

INSIDE = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]


def _has_namespaces() -> bool:
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    return subprocess.run([*INSIDE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(os.environ.get("PROOFS") != "full", reason="PROOFS=full")
@pytest.mark.timeout(300)
def test_an_air_gapped_platform_starts_serves_and_accounts(tmp_path: Path) -> None:
    if not _has_namespaces():
        pytest.skip("no network namespaces here")
    done = subprocess.run(
        [*INSIDE, sys.executable, "-m", __name__, str(tmp_path)],
        capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["all of it"], done.stdout + done.stderr


def walk(folder: Path) -> None:
    """Start, calls, stream, cache, embeddings, moderation, usage, audit and reports, with no
    route."""
    with socket.socket() as probe:
        probe.settimeout(1)
        assert probe.connect_ex(("8.8.8.8", 53)) != 0, "there is a route"
    platform = Platform(folder)
    platform.environment |= {
        "TOKENSCHAIN_SOVEREIGNTY__MODE": "air-gapped", "TOKENSCHAIN_CACHE__MODE": "exact",
    }  # fmt: skip
    platform.start()
    try:
        _walk(platform)
    finally:
        platform.stop()


def _walk(platform: Platform) -> None:
    gateway, control = (f"http://127.0.0.1:{port}" for port in platform.ports[:2])
    key = re.search(r"tc-[\w-]{43}", platform.output)
    token = re.search(r"tca-[\w-]+", platform.output)
    assert key is not None and token is not None
    caller = {"authorization": f"Bearer {key[0]}"}
    admin = {"authorization": f"Bearer {token[0]}"}

    def call(text: str, **more: object) -> httpx.Response:
        body = {"model": MODEL, "max_tokens": 8, "temperature": 0,
                "messages": [{"role": "user", "content": text}], **more}  # fmt: skip
        return web.post(f"{gateway}/v1/chat/completions", json=body, headers=caller, timeout=60)

    # Only an answer that ended by itself is kept, and where a small model ends is no promise.
    short: dict[str, Any] = {"stop": [" "], "max_tokens": 60}
    first = call("Name three colours.", **short)
    assert first.status_code == 200, first.text
    assert first.json()["choices"][0]["finish_reason"] == "stop", first.text
    print("a call")
    assert "data: [DONE]" in call("Name two rivers.", stream=True).text
    print("a stream")
    again = call("Name three colours.", **short)
    assert again.headers.get("x-tc-cache") == "hit-exact", again.headers
    assert again.json()["choices"] == first.json()["choices"]
    print("cache")
    embedded = web.post(f"{gateway}/v1/embeddings", headers=caller, timeout=60,
                        json={"model": "multilingual-e5-small", "input": "hello"})  # fmt: skip
    assert embedded.status_code == 200, embedded.text
    print("embeddings")
    picture = [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]
    refused = call("", messages=[{"role": "user", "content": picture}])
    assert refused.json()["error"]["code"] == "unsupported_parameter", refused.text
    judged = web.post(f"{gateway}/v1/moderations", headers=caller, timeout=60,
                      json={"input": "身份证号 11010519491231002X"})  # fmt: skip
    assert judged.status_code == 200, judged.text
    assert judged.json()["results"][0]["categories"]["rights/personal_information"]
    print("moderation")
    until(lambda: sum(
        row["calls"] for row in web.get(f"{control}/api/v1/usage", headers=admin).json()["data"]
    ) >= 4)  # fmt: skip
    print("usage")
    until(lambda: web.get(f"{control}/api/v1/audit-log/checkpoint", headers=admin).status_code
          == 200)  # fmt: skip
    print("audit")
    log = str(platform.folder / "log.tar")
    public_key = _done(platform, "audit", "key").partition("\n")[0]
    assert _done(platform, "audit", "export", log).startswith("segments 0 to ")
    proved = json.loads(_done(platform, "audit", "verify", log, "--key", public_key))
    assert proved["problems"] == [] and proved["verified"], proved
    print("audit export and verify")
    report = str(platform.folder / "mlps3.tar")
    assert "met: " in _done(
        platform, "compliance", "report", "--standard", "mlps3", "--out", report
    )
    signed = _done(platform, "compliance", "verify", report, "--key", public_key)
    assert signed.strip() == public_key.partition("+")[0]
    print("compliance report and verify")
    until(lambda: platform.run("doctor").returncode == 0)  # looks every 5 s
    print("doctor")
    print("all of it")


def _done(platform: Platform, *command: str) -> str:
    """What a command prints that ends well, with no route either."""
    done = platform.run(*command)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


if __name__ == "__main__":
    walk(Path(sys.argv[1]))
