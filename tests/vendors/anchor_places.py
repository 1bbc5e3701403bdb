"""Simulated time stamp authority (RFC 3161, by `openssl ts`) and bucket with object lock (S3)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

from tests.small_server import JsonHandler, serving

REFUSED = bytes.fromhex("30053003020102")
"""An answer with the status `rejection` and no time stamp."""
_TSA = """[tsa]
default_tsa = one
[one]
serial = {folder}/serial
signer_cert = {folder}/tsa.pem
certs = {folder}/ca.pem
signer_key = {folder}/tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""
ACCESS, SECRET = "AKTEST", "its-secret"
CREDENTIAL = f"{ACCESS}:{SECRET}"


class Authority:
    """A time stamp authority with a key of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mode = ""
        self.answers: list[bytes] = []
        (folder / "serial").write_text("01\n")
        (folder / "tsa.cnf").write_text(_TSA.format(folder=folder))
        (folder / "ext").write_text("extendedKeyUsage = critical,timeStamping\n")
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out",
                      "ca.pem", "-subj", "/CN=ca", "-days", "9")  # fmt: skip
        self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "tsa.key", "-out",
                      "tsa.csr", "-subj", "/CN=tsa")  # fmt: skip
        self._openssl("x509", "-req", "-in", "tsa.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                      "-CAcreateserial", "-out", "tsa.pem", "-days", "9", "-extfile", "ext")  # fmt: skip

    def _openssl(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["openssl", *arguments], cwd=self.folder, capture_output=True, check=True, timeout=60
        )

    def answer(self, query: bytes) -> bytes:
        """What it answers to a request, by its mode."""
        if self.mode == "refuses":
            return REFUSED
        if self.mode == "replays":
            return self.answers[0]
        if self.mode == "no answer":
            return b"<html>welcome</html>"
        if self.mode == "other digest":
            self._openssl("ts", "-query", "-data", "tsa.cnf", "-sha256", "-out", "q")
        else:
            (self.folder / "q").write_bytes(query)
        self._openssl("ts", "-reply", "-config", "tsa.cnf", "-queryfile", "q", "-out", "a")
        self.answers.append((self.folder / "a").read_bytes())
        return self.answers[-1]

    def verifies(self, data: bytes, answer: bytes) -> bool:
        """Whether OpenSSL verifies an answer, by the authority's certificate alone."""
        (self.folder / "data").write_bytes(data)
        (self.folder / "tsr").write_bytes(answer)
        done = subprocess.run(
            ["openssl", "ts", "-verify", "-data", "data", "-in", "tsr", "-CAfile", "ca.pem"],
            cwd=self.folder, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode == 0 and b"Verification: OK" in done.stdout


class Bucket:
    """Objects by name and version; what is locked is not deleted."""

    def __init__(self) -> None:
        self.mode = ""
        self.objects: dict[tuple[str, str], tuple[bytes, dict[str, str]]] = {}

    def put(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        lock = {name: value for name, value in headers.items() if "object-lock" in name}
        sum_ = base64.b64encode(hashlib.sha256(body).digest()).decode()
        if self.mode == "no lock" or headers.get("x-amz-checksum-sha256") != sum_:
            return 400, {}
        if self.mode == "ignores":
            lock = {}
        if self.mode == "shorter":
            soon = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(time.time() + 60))
            lock["x-amz-object-lock-retain-until-date"] = soon
        version = f"v/{len(self.objects)}="
        self.objects[path, version] = (b"other" if self.mode == "other bytes" else body, lock)
        return 200, {"x-amz-version-id": version}

    def delete(self, path: str, version: str) -> int:
        if not version:
            return 204  # a marker; the version stays
        until = self.objects[path, version][1].get("x-amz-object-lock-retain-until-date", "")
        if until > time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()):
            return 403
        del self.objects[path, version]
        return 204


def signature_of(method: str, target: str, headers: dict[str, str], secret: str) -> str:
    """AWS Signature Version 4, written down from its description."""
    stated = headers["authorization"]
    scope = stated.partition("Credential=")[2].partition(",")[0].partition("/")[2]
    names = stated.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    parts = urlsplit(target)
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value[0], safe='-_.~')}"
        for name, value in sorted(parse_qs(parts.query).items())
    )
    lines = [method, parts.path, query, *(f"{name}:{headers[name].strip()}" for name in names), "",
             ";".join(names), headers["x-amz-content-sha256"]]  # fmt: skip
    hashed = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    text = f"AWS4-HMAC-SHA256\n{headers['x-amz-date']}\n{scope}\n{hashed}"
    key = b"AWS4" + secret.encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@contextmanager
def serving_authority(authority: Authority) -> Iterator[str]:
    """Serve an authority; gives its address."""

    class Handler(JsonHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["content-length"]))
            right = self.headers["content-type"] == "application/timestamp-query"
            data = authority.answer(query) if right else b""
            self.send_response(200 if right and authority.mode != "fails" else 500)
            self.send_header("content-type", "application/timestamp-reply")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    with serving(Handler) as url:
        yield f"{url}/tsr"


@contextmanager
def serving_bucket(bucket: Bucket) -> Iterator[str]:
    """Serve a bucket to who signs with its key; gives its address."""

    class Handler(JsonHandler):
        def _serve(self, method: str) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            signed = headers.get("authorization", "").rpartition("Signature=")[2]
            is_hash = headers.get("x-amz-content-sha256") == hashlib.sha256(body).hexdigest()
            if not is_hash or signed != signature_of(method, self.path, headers, SECRET):
                self._answer(403, {}, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")
                return
            parts = urlsplit(self.path)
            version = (parse_qs(parts.query).get("versionId") or [""])[0]
            if method == "PUT":
                status, more = bucket.put(parts.path, body, headers)
                self._answer(status, more, b"" if status == 200 else b"<Error>no lock</Error>")
            elif method == "DELETE":
                self._answer(bucket.delete(parts.path, version), {}, b"")
            else:
                data, lock = bucket.objects[parts.path, version]
                self._answer(200, lock, data)

        def _answer(self, status: int, more: dict[str, Any], data: bytes) -> None:
            self.send_response(status)
            for name, value in more.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_PUT(self) -> None:
            self._serve("PUT")

        def do_GET(self) -> None:
            self._serve("GET")

        def do_DELETE(self) -> None:
            self._serve("DELETE")

    with serving(Handler) as url:
        yield f"{url}/audit/of-one"
