"""Private hosts: names that callers are not told of."""

from __future__ import annotations

from tokenschain.core.snapshot import Served, Snapshot, Upstream
from tokenschain.infra.config.groups import ControlSettings, Settings
from tokenschain.infra.private_hosts import PrivateHosts


def test_machines_of_the_settings_are_known_before_there_is_a_configuration() -> None:
    settings = Settings(control=ControlSettings(url="http://control.internal:8001"))
    hosts = PrivateHosts(settings, Served())
    assert "control.internal" in hosts.names()


def test_upstreams_are_known_as_they_are_written_and_looked_up_once_they_are_served() -> None:
    served = Served()
    hosts = PrivateHosts(Settings(), served)
    before = hosts.names()
    for version, url in (("1", "http://例え.テスト/v1"), ("2", "http://[nowhere/v1")):
        upstream = Upstream("one", "openai", url, token_url="http://token.internal/")
        served.serve(version, Snapshot(version, {"one": upstream}, {}), {})
        found = hosts.names() - before
        assert "token.internal" in found
        assert ("例え.テスト" in found) == ("xn--r8jz45g.xn--zckzah" in found) == (version == "1")
    assert "" not in hosts.names()
