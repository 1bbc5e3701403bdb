"""Real processes for tests: control, gateway workers, the whole platform."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests import servers, web
from tests.ports import free_port
from tests.waiting import WAIT_MAX_S, until
from tokenschain.infra import config
from tokenschain.infra.database import engine as db
from tokenschain.wiring import machine

START_MAX_S = 90.0
EDGE = "127.0.0.2"
"""Whom the shared stack trusts to say who callers are."""
PRICES = {"currency": "CNY", "input": "1", "output": "2", "cached_input": "0.1"}


class Stack:
    """Control and one gateway over a simulated upstream, each a real process."""

    def __init__(
        self, folder: Path, upstream_url: str, *, gateways: int = 1, **settings: Any
    ) -> None:
        """
        Args:
            gateways: how many there are, each with a port and a folder of its own;
                `gateway` is the first, `gateway-1` the second.
        """
        self.folder = folder
        self.gateways = gateways
        self.port, self.control_port = free_port(), free_port()
        limits = settings.pop("limits", {})
        entry = {
            "id": "sim",
            "base_url": upstream_url,
            "models": ["sim-chat", "sim-embed", "other-chat"],
            "kinds": {"sim-embed": "embedding"},
            "prices": dict.fromkeys(("sim-chat", "sim-embed", "other-chat"), PRICES),
            **limits,
        }
        self.values: dict[str, Any] = {
            "data_dir": str(folder / "data"),
            "server": {"port": self.port, "gateways": gateways},
            "control": {"port": self.control_port},
            "engine": {"enabled": False},
            "journal": {"ship_interval_s": 0.05},
            "upstreams": [entry],
        }
        for name, value in settings.items():
            # A group is added to, anything else replaced.
            group = self.values.get(name) if isinstance(value, dict) else None
            self.values[name] = {**group, **value} if group else value
        self.ports = [self.port, *(free_port() for _ in range(gateways - 1))]
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / "tokenschain.yaml"
        self._file.write_text(yaml.safe_dump(self.values), encoding="utf-8")
        self.environment = {
            key: value for key, value in os.environ.items() if not key.startswith("TOKENSCHAIN_")
        } | {"TOKENSCHAIN_CONFIG": str(self._file)}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.log = (folder / "log").open("ab")
        os.environ["TOKENSCHAIN_CONFIG"] = str(self._file)
        try:
            self.settings = config.load()
        finally:
            del os.environ["TOKENSCHAIN_CONFIG"]
        first = machine.prepare(self.settings)
        assert first.api_key is not None and first.admin_token is not None
        self.key: str = first.api_key
        self.admin_token: str = first.admin_token

    def start(self, *names: str) -> Stack:
        names = names or ("control", *self.gateway_names)
        try:
            for name in names:
                self.spawn(name)
            for name in names:
                self.wait_ready(name)
        except BaseException:
            self.close()  # what did not come up must not stay behind
            raise
        return self

    @property
    def gateway_names(self) -> list[str]:
        return ["gateway", *(f"gateway-{n}" for n in range(1, self.gateways))]

    @property
    def urls(self) -> list[str]:
        return [f"http://127.0.0.1:{port}" for port in self.ports]

    def spawn(self, name: str) -> None:
        """Start a process without waiting for it."""
        kind, _, number = name.partition("-")
        arguments = {"gateway": ["gateway", "--worker", "0"], "workers": ["gateway"]}.get(
            kind, [kind]
        )
        environment = self.environment
        if number:
            data = self.settings.data_dir
            environment = environment | {
                "TOKENSCHAIN_DATA_DIR": str(self.folder / name),
                "TOKENSCHAIN_SERVER__PORT": str(self.ports[int(number)]),
                "TOKENSCHAIN_SECRETS__INTERNAL_SECRET_FILE": str(data / "secrets" / "internal"),
                "TOKENSCHAIN_SECRETS__METRICS_TOKEN_FILE": str(data / "secrets" / "metrics"),
            }
        self.processes[name] = servers.start(
            [sys.executable, "-m", "tokenschain", *arguments],
            env=environment,
            stdout=self.log,
            stderr=self.log,
        )

    def wait_ready(self, name: str) -> None:
        if name == "semantic":
            wait_for(f"http://127.0.0.1:{self.settings.semantic.port}/health", self.read_log)
            return
        number = int(name.partition("-")[2] or 0)
        port = self.ports[number] if name.startswith("gateway") else self.control_port
        wait_for(f"http://127.0.0.1:{port}/readyz", self.read_log)

    def kill(self, name: str) -> None:
        """kill -9."""
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGTERM)
        self.processes[name].wait(timeout=START_MAX_S)

    def close(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.log.close()

    def read_log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def chat(self, timeout: float = 30.0, **body: Any) -> httpx.Response:
        """One chat call; `x_sim` in the body scripts the upstream."""
        body = {"model": "sim-chat", "messages": [{"role": "user", "content": "hi"}]} | body
        return web.post(
            f"{self.url}/v1/chat/completions", json=body, headers=self.headers, timeout=timeout
        )

    def admin(self, method: str, path: str, **more: Any) -> httpx.Response:
        return web.request(
            method,
            f"http://127.0.0.1:{self.control_port}{path}",
            headers={"authorization": f"Bearer {self.admin_token}"},
            timeout=more.pop("timeout", 10),
            **more,
        )

    def new_key(self, **fields: Any) -> str:
        """Another key, once every gateway knows it."""
        made = self.admin("POST", "/api/v1/keys", json={"name": "k"} | fields)
        assert made.status_code == 201, made.text
        key = str(made.json()["key"])
        self.until_known(key)
        return key

    def until_known(self, key: str, *, known: bool = True) -> None:
        """Wait until every gateway knows a key, or knows it no more."""
        headers = {"authorization": f"Bearer {key}"}
        for url in self.urls:
            until(lambda u=url: (web.get(f"{u}/v1/models", headers=headers).status_code != 401)  # type: ignore[misc]
                  == known)  # fmt: skip

    def until_served(self) -> None:
        """Wait until every gateway serves by the configuration as control has it now.

        Configurations come in order and whole, so a gateway that knows a key made just now has
        everything that was changed before.
        """
        self.new_key(name="probe")

    @property
    def metrics_headers(self) -> dict[str, str]:
        """What reads metrics of the first gateway's machine."""
        token = self.settings.metrics_token_path.read_text(encoding="utf-8").strip()
        return {"authorization": f"Bearer {token}"}

    def metrics(self, url: str = "") -> str:
        """The metrics of one gateway, by default of the first."""
        reply = web.get(f"{url or self.url}/metrics", headers=self.metrics_headers)
        assert reply.status_code == 200, reply.text
        return reply.text

    def counted(self) -> float:
        """Calls that the gateways' metrics count; workers refresh them once a second."""
        text = "".join(map(self.metrics, self.urls))
        lines = (li for li in text.splitlines() if li.startswith("tokenschain_calls_total"))
        return sum(float(line.split()[-1]) for line in lines)

    def rows(self, query: str = "select * from ledger order by started_ms") -> list[Any]:
        if self.settings.database.url is not None:
            engine = db.connect(self.settings.database.url, 2)
            with engine.connect() as connection:
                found = list(connection.exec_driver_sql(query).mappings())
            engine.dispose()
            return found
        connection = sqlite3.connect(self.folder / "data" / "tokenschain.db", timeout=10)
        connection.row_factory = sqlite3.Row
        try:
            return list(connection.execute(query))
        finally:
            connection.close()

    def settled(self, count: int, timeout_s: float = WAIT_MAX_S) -> list[Any]:
        """The ledger once it holds at least `count` rows."""
        until(lambda: len(self.rows()) >= count, timeout_s)
        return self.rows()

    def row_of(self, reply: httpx.Response | str, timeout_s: float = WAIT_MAX_S) -> Any:
        """The ledger row of a call, by its answer's request id."""
        call = reply if isinstance(reply, str) else reply.headers["x-request-id"]
        try:
            found = until(
                lambda: self.rows(f"select * from ledger where event_id = '{call}'"), timeout_s
            )
        except AssertionError:
            raise AssertionError(f"{call} did not reach the ledger:\n{self.read_log()}") from None
        return found[0]


def wait_for(url: str, log: Any) -> None:
    deadline = time.monotonic() + START_MAX_S
    while time.monotonic() < deadline:
        try:
            if web.get(url, timeout=1).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"{url} was not ready in {START_MAX_S} s:\n{log()}")
