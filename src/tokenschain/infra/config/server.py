"""Settings of a gateway's server: its port, workers and the bounds of what callers send."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from tokenschain.core.keyed_rates import NOT_FOUND_PER_MINUTE
from tokenschain.infra.config.value_types import Network, Port


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's API: address, processes, and the limits of its connections."""

    name: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._-]{0,63}\Z",
            description="Name of this gateway in the log, as `node`, and in call records; by "
            "default the host's name and the port.",
        ),
    ] = ""
    host: Annotated[str, Meta(description="Address the gateway listens on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port the gateway listens on.")] = 8000
    workers: Annotated[
        int, Meta(ge=1, le=256, description="Number of gateway processes that share the port.")
    ] = 1
    gateways: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000,
            description="Number of gateways there are, each with its `workers`. With more than "
            "one process in all, rate limits are shared.",
        ),
    ] = 1
    trusted_proxies: Annotated[
        tuple[Network, ...],
        Meta(description="Networks whose `X-Forwarded-For` is believed, as `10.0.0.0/8`."),
    ] = ()
    cors_origins: Annotated[
        tuple[str, ...], Meta(description="Origins that may call from a browser; `*` for all.")
    ] = ()
    head_bytes_max: Annotated[
        int, Meta(ge=1_024, description="Largest request head, in bytes.")
    ] = 32_768  # fmt: skip
    headers_max: Annotated[
        int, Meta(ge=10, description="Most header fields in a request.")
    ] = 100  # fmt: skip
    body_bytes_max: Annotated[
        int, Meta(ge=1_024, description="Largest request body, in bytes.")
    ] = 33_554_432
    body_bytes_total_max: Annotated[
        int,
        Meta(
            ge=1_048_576,
            description="Most bytes of request bodies that are received or served at one time, "
            "for each worker; more is refused with 503.",
        ),
    ] = 536_870_912
    body_bytes_per_address_max: Annotated[
        int,
        Meta(
            ge=1_048_576,
            description="As `body_bytes_total_max`, of one address (IPv6: of one /64); more is "
            "refused with 429.",
        ),
    ] = 268_435_456
    head_wait_max_s: Annotated[
        float, Meta(gt=0, description="Seconds within which a request head must arrive.")
    ] = 10.0
    body_grace_s: Annotated[
        float,
        Meta(
            gt=0,
            description="Seconds a request body may take, on top of its bytes over "
            "`body_rate_min`.",
        ),
    ] = 10.0
    body_rate_min: Annotated[
        int, Meta(ge=1, description="Slowest upload that is accepted, in bytes per second.")
    ] = 4_096
    idle_max_s: Annotated[
        float, Meta(gt=0, description="Seconds after which an idle connection is closed.")
    ] = 75.0
    write_stall_max_s: Annotated[
        float,
        Meta(gt=0, description="Seconds after which a caller that reads nothing is cut off."),
    ] = 60.0
    connections_max: Annotated[
        int,
        Meta(
            ge=1,
            description="Most connections of callers, for each worker; fewer where the process "
            "may not open as many files.",
        ),
    ] = 16_384
    connections_per_address_max: Annotated[
        int,
        Meta(
            ge=1,
            description="As `connections_max`, of one address (IPv6: of one /64) that is not a "
            "trusted proxy; at most three quarters of them. One more takes the place of an idle "
            "one.",
        ),
    ] = 12_288
    invalid_keys_per_minute_max: Annotated[
        int,
        Meta(
            ge=1,
            description="Most wrong API keys of one address (IPv6: of one /64) per minute, for "
            "each worker; more get 429. Right keys from there are served.",
        ),
    ] = 600
    not_found_per_minute_max: Annotated[
        int,
        Meta(ge=1, description="Most requests per minute, for each worker, that are answered 404: "
             "of one address for paths, of one key for models; more get 429."),
    ] = NOT_FOUND_PER_MINUTE  # fmt: skip
    reads_per_minute_max: Annotated[
        int,
        Meta(
            ge=1,
            description="Most requests of one key per minute, for each worker, that call no "
            "model: counts of tokens, `routes/explain`, stored responses, lists of models.",
        ),
    ] = 1_200
    heartbeat_s: Annotated[
        float,
        Meta(gt=0, description="Seconds of silence after which a stream gets a comment line."),
    ] = 15.0
    cancel_revoked_calls: Annotated[
        bool,
        Meta(
            description="Whether running calls end within a second after their key was revoked, "
            "closed or has expired; otherwise they go on to their end."
        ),
    ] = True
    drain_max_s: Annotated[
        float,
        Meta(ge=0, description="Seconds that running calls may take to finish after SIGTERM."),
    ] = 30.0
    access_log: Annotated[
        str,
        Meta(
            pattern=r"^(|stderr|/[^\x00]*)\Z",
            description="Where one line of JSON for each call is written: `stderr`, or a file by "
            "its whole path, as `/var/log/tokenschain/access.log`; by default nowhere.",
        ),
    ] = ""
