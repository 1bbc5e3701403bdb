"""Where control sends what is found about a tenant: only within the tenant's sovereignty modes."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from sqlalchemy import Connection

from tokenschain.control.configuration import store
from tokenschain.control.configuration.kinds import RoutingSpec, TenantRoutingSpec
from tokenschain.control.configuration.resources import Kind
from tokenschain.control.identity import organization
from tokenschain.control.sovereignty import transfers
from tokenschain.core.snapshot import own_id
from tokenschain.core.snapshot.zones import EVERYBODY, NONE, Sovereignty, zones_of
from tokenschain.infra.config import Settings
from tokenschain.infra.egress_rules import Egress


class Destinations:
    """Says which targets may be told of which tenant."""

    def __init__(self, settings: Settings, egress: Egress) -> None:
        """
        Args:
            egress: knows the zones of machines, and is told of what was refused.
        """
        self._settings, self._egress = settings, egress

    def zones(self, connection: Connection, tenant: str) -> frozenset[str] | None:
        """Zones that may be told of a tenant; None where no mode says anything. The deployment's
        mode is kept to where connections are opened.

        Args:
            tenant: empty for what is of the platform.
        """
        sovereignty = self._settings.sovereignty
        modes: list[Sovereignty] = []
        by_scope: list[Mapping[str, Sovereignty]] = [transfers.in_force(connection, sovereignty)]
        for one in store.of_tenants(connection, Kind.ROUTING, {"", tenant}):
            if isinstance(one.spec, RoutingSpec):
                by_scope += [one.spec.sovereignty, dict.fromkeys(one.spec.residency, NONE)]
            elif isinstance(one.spec, TenantRoutingSpec):
                modes.append(one.spec.sovereignty.get(EVERYBODY, NONE))
        for scope in (EVERYBODY, f"tenant/{tenant}"):
            modes += [given[scope] for given in by_scope if scope in given]
        data_class = organization.data_classes(connection).get((tenant, ""), "")
        if data_class:
            rules = store.data_classes(connection, (tenant,))
            scope = f"class/{data_class}"
            of_class = [given[scope] for given in by_scope if scope in given]
            names = {data_class, own_id(tenant, data_class)} & rules.keys()
            of_class += [rules[name].sovereignty for name in names]
            if not of_class:
                return frozenset()  # as its calls: nothing is known of the class any more
            modes += of_class
        found = [frozenset(zones) for mode in modes if (zones := zones_of(mode)) is not None]
        return frozenset[str].intersection(*found) if found else None

    def check(self, zones: frozenset[str] | None, tenant: str, kind: str, address: str) -> None:
        """Insist that a target may be told of a tenant.

        Args:
            zones: see `zones`.
            kind: of the target; of an `email`, the mail server and the address's domain count.

        Raises:
            EgressRefused: its zone is another, or nobody says which it is.
        """
        if zones is None:
            return
        server = self._settings.smtp.host
        if kind != "email":
            hosts = [urlsplit(address).hostname or ""]
        else:
            hosts = [address.rpartition("@")[2], *([server] if server else [])]
        for host in hosts:
            self._egress.check_within(host, zones, f"of {tenant or 'the platform'}")
