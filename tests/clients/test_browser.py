"""The official JavaScript SDK in a real browser: preflights, streams, readable headers."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.stack import Stack
from tests.upstreams import UpstreamSimulator

SDK = Path(__file__).parent / "node_modules" / "openai"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
WAIT_MAX_S = 90.0
PAGE = """<!doctype html><title>page</title><script type="module">
import OpenAI from "/sdk/index.mjs";
const said = {};
try {
  const client = new OpenAI({baseURL: BASE, apiKey: KEY, dangerouslyAllowBrowser: true,
                             maxRetries: 0});
  const messages = [{role: "user", content: "hi"}], model = "sim-chat";
  const {data, request_id} = await client.chat.completions.create({model, messages}).withResponse();
  said.whole = data.choices[0].message.content;
  said.request = request_id;
  said.stream = "";
  for await (const chunk of await client.chat.completions.create({model, messages, stream: true}))
    said.stream += chunk.choices[0]?.delta?.content ?? "";
  const made = await client.responses.create({model, input: "hi"});
  said.response = made.output_text;
  await client.responses.delete(made.id);
  try { await client.chat.completions.create({model: "none", messages}); }
  catch (error) { said.error = [error.status, error.code]; }
} catch (error) { said.failed = String(error); }
await fetch("/said", {method: "POST", body: JSON.stringify(said)});
</script>"""


class _Site:
    """Serves the page and the SDK as it was installed; hears what the page found."""

    def __init__(self) -> None:
        self.page, self.said, self.heard = "", {}, threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None: ...

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                file = SDK / path.removeprefix("/sdk/") if path.startswith("/sdk/") else None
                body = file.read_bytes() if file and file.is_file() else site.page.encode()
                self.send_response(200)
                self.send_header("content-type", "text/javascript" if file else "text/html")
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                site.said = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(204)
                self.end_headers()
                site.heard.set()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def site() -> Iterator[_Site]:
    made = _Site()
    yield made
    made.close()


def _open(url: str, profile: Path, heard: threading.Event) -> None:
    """Open a page in a headless browser, until it has said what it found."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", f"--user-data-dir={profile}",
        url,
    ]  # fmt: skip
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert heard.wait(WAIT_MAX_S), "the page has said nothing"
    finally:
        browser.terminate()
        browser.wait(timeout=20)


@pytest.mark.skipif(CHROMIUM is None or not SDK.is_dir(), reason="needs Chromium and the SDK")
def test_the_official_sdk_works_in_a_browser_of_an_allowed_origin(
    site: _Site, tmp_path: Path, upstream: UpstreamSimulator
) -> None:
    """`dangerouslyAllowBrowser`: each call is preceded by a preflight of Chromium's own."""
    stack = Stack(tmp_path / "stack", upstream.base_url, server={"cors_origins": [site.origin]})
    try:
        stack.start()
        base, key = json.dumps(f"{stack.url}/v1"), json.dumps(stack.key)
        site.page = PAGE.replace("BASE", base).replace("KEY", key)
        _open(f"{site.origin}/", tmp_path / "profile", site.heard)
    finally:
        stack.close()
    said: dict[str, Any] = site.said
    words = "word0 word1 word2 word3 "
    assert "failed" not in said, said
    assert (said["whole"], said["stream"], said["response"]) == (words, words, words)
    assert said["request"].startswith("req_") and said["error"] == [404, "model_not_found"]


@pytest.mark.skipif(CHROMIUM is None or not SDK.is_dir(), reason="needs Chromium and the SDK")
def test_another_origin_reads_nothing(site: _Site, stack: Stack, tmp_path: Path) -> None:
    base, key = json.dumps(f"{stack.url}/v1"), json.dumps(stack.key)
    site.page = PAGE.replace("BASE", base).replace("KEY", key)
    _open(f"{site.origin}/", tmp_path / "profile", site.heard)
    assert "Connection error" in site.said["failed"] and "whole" not in site.said
