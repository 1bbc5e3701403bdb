"""The same strict vendors behind real processes and sockets; asked as `lab.Lab` is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from tests.stack import PRICES, Stack
from tests.translation.lab import Result
from tests.vendors.strict.table import VENDORS
from tests.vendors.strict.vendor import Strict, StrictServer


class Wired:
    """A stack whose upstreams are strict vendors; models are named after them."""

    def __init__(self, folder: Path) -> None:
        self.vendors = {name: Strict(name, vendor) for name, vendor in VENDORS.items()}
        self.servers = {name: StrictServer(strict) for name, strict in self.vendors.items()}
        upstreams = [
            {
                "id": name,
                "provider": strict.vendor.provider,
                "base_url": self.servers[name].base_url,
                "credential": f"env:STRICT_{name.upper().replace('-', '_')}",
                "models": {name: strict.vendor.model},
                "kinds": {strict.vendor.model: "chat"},
                "prices": {strict.vendor.model: PRICES},
            }
            for name, strict in self.vendors.items()
        ]
        self.stack = Stack(folder, "http://unused", upstreams=upstreams)
        for entry in upstreams:
            variable = str(entry["credential"]).removeprefix("env:")
            self.stack.environment[variable] = self.vendors[str(entry["id"])].credential
        self.stack.start()
        self._client = httpx.Client(
            base_url=self.stack.url, headers=self.stack.headers, timeout=20, trust_env=False
        )
        self.tallied: dict[str, list[int]] = {name: [0, 0] for name in self.vendors}
        """All tokens that each vendor counted: prompts and completions."""

    def ask(self, path: str, body: dict[str, Any], **headers: str) -> Result:
        """One call; see `Lab.ask`."""
        vendor = self.vendors[str(body["model"])]
        before = len(vendor.counted)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        got = self._client.post(path, content=json.dumps(body).encode(), headers=sent)
        counted = vendor.counted[before:]
        for prompt, completion in counted:
            tally = self.tallied[vendor.name]
            tally[0] += prompt
            tally[1] += completion
        record = _Record(self.stack.row_of(got)) if got.status_code == 200 else None
        return Result(
            got.status_code, {n.lower(): v for n, v in got.headers.items()}, got.content,
            list(vendor.received), record, [], counted,  # type: ignore[arg-type]
        )  # fmt: skip

    def close(self) -> None:
        self._client.close()
        self.stack.close()
        for server in self.servers.values():
            server.close()


class _Record:
    """A row of the ledger, read as a record."""

    def __init__(self, row: Any) -> None:
        self._row = row

    def __getattr__(self, name: str) -> Any:
        return self._row[name]
