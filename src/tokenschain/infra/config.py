"""Settings: a YAML file, overridden by environment variables `TOKENSCHAIN_*`.

Every setting has a unit in its name, a bound and a sentence of purpose; the
reference page and `tokenschain doctor` are made from them.
"""

from __future__ import annotations

import os
from decimal import Decimal
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from tokenschain.core.snapshot.routing_policy import POLICIES

ENV_PREFIX = "TOKENSCHAIN_"
ADMIN_TOKEN_VARIABLE = "TOKENSCHAIN_ADMIN_TOKEN"  # noqa: S105
DEFAULT_FILE = "tokenschain.yaml"


FIND_WAIT_MAX_S = 0.4
"""How long a call waits for the process that compares questions."""
_Reference = Annotated[str, Field(pattern=r"^(env|file|sealed):.+$")]
_HttpUrl = Annotated[str, Field(pattern=r"^https?://\S+$")]


class PriceSettings(BaseModel):
    """A price the operator sets, per 1,000,000 tokens."""

    model_config = ConfigDict(extra="forbid")

    currency: Literal["CNY", "USD"] = "CNY"
    input: Annotated[Decimal, Field(ge=0)]
    output: Annotated[Decimal, Field(ge=0)]
    cached_input: Annotated[Decimal | None, Field(ge=0)] = None


class UpstreamSettings(BaseModel):
    """One upstream the operator adds."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    provider: str = "custom"
    base_url: str | None = None
    credential: _Reference | list[_Reference] | None = None
    auth: Literal["", "jwt", "sdk-hmac-sha256", "sdk-hmac-sm3", "token"] = ""
    token_url: str | None = None
    models: dict[str, str] | list[str] | None = None
    """Names callers use, or those names and what the upstream calls them; all by default."""
    prices: dict[str, PriceSettings] = Field(default_factory=dict)
    """By the upstream's model name; beats the catalogue."""
    kinds: dict[str, Literal["chat", "embedding", "rerank"]] = Field(default_factory=dict)
    """By the upstream's model name; for models the catalogue does not know."""
    connect_max_s: Annotated[float, Field(gt=0)] = 5.0
    first_byte_max_s: Annotated[float, Field(gt=0)] = 300.0
    idle_max_s: Annotated[float, Field(gt=0)] = 120.0
    total_max_s: Annotated[float, Field(gt=0)] = 1_800.0
    connections_max: Annotated[int, Field(gt=0)] = 1_000
    queue_wait_max_s: Annotated[float, Field(gt=0)] = 5.0
    stream_whole: bool = False
    concurrency_max: Annotated[int, Field(gt=0)] = 1_000
    probe_path: Annotated[str, Field(pattern=r"^(/[!-~]*)?$", max_length=200)] = ""
    region: str = ""
    zone: Literal["", "abroad", "cn", "mlps3", "gov", "own"] = ""

    @field_validator("base_url", "token_url")
    @classmethod
    def _http_only(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return value


class WhenSettings(BaseModel):
    """Conditions of an entry; all that are given must hold."""

    model_config = ConfigDict(extra="forbid")

    language: Literal["zh", "en", "ja", "ko", "ru", "ar"] | None = None
    tags: list[str] = Field(default_factory=list)
    needs: list[Literal["tools", "vision", "json_schema"]] = Field(default_factory=list)
    prompt_tokens_min: Annotated[int, Field(ge=0)] = 0
    prompt_tokens_max: Annotated[int | None, Field(ge=1)] = None


class EntrySettings(BaseModel):
    """One line of a virtual model."""

    model_config = ConfigDict(extra="forbid")

    model: str
    upstream: str | None = None
    weight: Annotated[int | None, Field(ge=0)] = None
    when: WhenSettings | None = None


_DataClass = Annotated[str, Field(pattern=r"^class/[\w-]{1,32}$")]
_Whose = Annotated[str, Field(pattern=r"^(\*|(tenant|project|model)/.+)$")]


class PolicySettings(BaseModel):
    """A policy of the operator's own."""

    model_config = ConfigDict(extra="forbid")

    objective: Literal["latency", "cost", "score"] = "score"
    slo_share: Annotated[float, Field(gt=0, le=10)] = 0.6
    by_zone: bool = False
    latency: Annotated[float, Field(ge=0, le=100)] = 2.0
    price: Annotated[float, Field(ge=0, le=100)] = 1.0
    load: Annotated[float, Field(ge=0, le=100)] = 2.0
    availability: Annotated[float, Field(ge=0, le=100)] = 1.0


class RoutingSettings(BaseModel):
    """How calls find their upstream."""

    model_config = ConfigDict(extra="forbid")

    policy: str = "balanced"
    own_policies: dict[str, PolicySettings] = Field(default_factory=dict)
    policies: dict[_Whose, str] = Field(default_factory=dict)
    first_token_slo_s: Annotated[float, Field(gt=0)] = 2.0
    explore: Annotated[float, Field(ge=0, le=0.2)] = 0.01
    hedge: bool = False
    usd_cny: Annotated[float, Field(gt=0)] = 7.0
    region: str = ""
    models: dict[str, list[EntrySettings]] = Field(default_factory=dict)
    residency: dict[_Whose | _DataClass, list[Literal["abroad", "cn", "mlps3", "gov", "own"]]] = (
        Field(default_factory=dict)
    )

    @model_validator(mode="after")
    def _known_policies(self) -> RoutingSettings:
        known = {*POLICIES, *self.own_policies}
        for name in (self.policy, *self.policies.values()):
            if name not in known:
                raise ValueError(f"no policy `{name}`; known: {', '.join(sorted(known))}")
        return self


class JudgeSettings(BaseModel):
    """A chat model that says whether a kept answer fits."""

    model_config = ConfigDict(extra="forbid")

    base_url: _HttpUrl
    model: str
    credential: _Reference | None = None
    decides: bool = False
    wait_max_s: Annotated[float, Field(gt=0, le=10)] = 2.0
    calls_per_minute: Annotated[int, Field(ge=1)] = 600


class EmbedderSettings(BaseModel):
    """An embedding model in place of the better of the two that come with the platform."""

    model_config = ConfigDict(extra="forbid")

    base_url: _HttpUrl
    model: str
    dimensions: Annotated[int, Field(ge=8, le=4_096)]
    credential: _Reference | None = None
    wait_max_s: Annotated[float, Field(gt=0, le=5)] = 0.3


class CacheSettings(BaseModel):
    """How answers are given a second time."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["off", "exact", "semantic"] = "off"
    policies: dict[_Whose, Literal["off", "exact", "semantic"]] = Field(default_factory=dict)
    scope: Literal["project", "user"] = "project"
    ttl_s: Annotated[float, Field(gt=0, le=2_592_000)] = 86_400.0
    temperature_max: Annotated[float, Field(ge=0, le=2)] = 0.3
    entry_bytes_max: Annotated[int, Field(ge=1_024)] = 262_144
    memory_bytes_max: Annotated[int, Field(ge=1_048_576)] = 67_108_864
    tenant_share: Annotated[float, Field(gt=0, le=1)] = 0.5
    writes_per_minute: Annotated[int, Field(ge=1)] = 600
    tool_calls: bool = False
    hit_price: Annotated[float, Field(ge=0, le=1)] = 0.0
    wrong_max: dict[_Whose, Annotated[float, Field(gt=0, le=0.2)]] = Field(default_factory=dict)
    replay_chars_per_s: Annotated[float, Field(ge=0)] = 0.0
    judge: JudgeSettings | None = None
    embedder: EmbedderSettings | None = None

    @property
    def find_wait_max_s(self) -> float:
        """How long a call waits to hear of a question that means the same: what comparing takes
        at most, and what models elsewhere may."""
        judge, embedder = self.judge, self.embedder
        return (
            FIND_WAIT_MAX_S
            + (judge.wait_max_s if judge is not None and judge.decides else 0.0)
            + (embedder.wait_max_s if embedder is not None else 0.0)
        )

    @property
    def compares_meanings(self) -> bool:
        """Whether anybody's questions are compared by meaning."""
        return "semantic" in (self.mode, *self.policies.values())


def _data_folder() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "tokenschain"


class Settings(BaseSettings):
    """Everything an operator can set."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid")

    data_dir: Path = Field(
        default_factory=_data_folder,
        description="Folder for the database, the journal, secrets and models.",
    )
    host: str = Field("127.0.0.1", description="Address the gateway listens on.")
    port: int = Field(8000, ge=0, le=65_535, description="Port of the gateway.")
    workers: int = Field(1, ge=1, le=256, description="Gateway processes sharing the port.")
    gateways: int = Field(
        1,
        ge=1,
        le=1_000,
        description="Gateways there are, each with its `workers`: with more than one process, "
        "rates are shared.",
    )
    control_host: str = Field("127.0.0.1", description="Address control listens on.")
    control_port: int = Field(8001, ge=0, le=65_535, description="Port of control.")
    control_url: str | None = Field(
        None, description="Where a gateway finds control; by default on this machine."
    )
    database_url: str | None = Field(
        None,
        description="SQLAlchemy URL; by default a SQLite file in `data_dir`. "
        "For PostgreSQL: `postgresql+psycopg://user:password@host/name`.",
    )
    redis_url: str | None = Field(
        None,
        description="Redis for what gateways share, as `redis://:password@host:6379/0`; without "
        "it, one gateway counts by itself and several count through control.",
    )
    database_connections_max: int = Field(
        10, ge=2, le=500, description="Connections of one control to PostgreSQL, at most."
    )
    ledger_days: int = Field(
        400, ge=1, description="Single calls are deleted after so many days; sums stay."
    )
    internal_secret_file: Path | None = Field(
        None,
        description="File with the secret that gateway and control share; by default made in "
        "`data_dir`.",
    )
    master_key_file: Path | None = Field(
        None,
        description="File with the key that seals secrets (`tokenschain secrets set`); by default "
        "made in `data_dir`.",
    )
    tls_certificate_file: Path | None = Field(
        None, description="PEM certificate chain; with it the gateway speaks HTTPS."
    )
    tls_key_file: Path | None = Field(None, description="PEM key of that certificate.")
    upstream_ca_file: Path | None = Field(
        None, description="PEM file of extra authorities to trust for upstreams."
    )
    upstream_proxy: str | None = Field(
        None, description="`http://host:port` of a proxy that understands CONNECT."
    )
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Networks whose `X-Forwarded-For` is believed, as `10.0.0.0/8`."
    )
    image_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Private networks that images may be fetched from, as `10.2.0.0/16`, for "
        "upstreams that take images only as data; public addresses always may.",
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Origins that may call from a browser; `*` for all."
    )
    head_bytes_max: int = Field(32_768, ge=1_024, description="Largest request head.")
    headers_max: int = Field(100, ge=10, description="Most header fields in a request.")
    body_bytes_max: int = Field(33_554_432, ge=1_024, description="Largest request body.")
    head_wait_max_s: float = Field(10.0, gt=0, description="A request head must arrive within.")
    body_grace_s: float = Field(
        10.0, gt=0, description="A body may take this long, plus its bytes over `body_rate_min`."
    )
    body_rate_min: int = Field(4_096, ge=1, description="Slowest upload, bytes per second.")
    idle_max_s: float = Field(75.0, gt=0, description="An idle connection is closed after.")
    write_stall_max_s: float = Field(
        60.0, gt=0, description="A caller that reads nothing is cut off after."
    )
    connections_max: int = Field(16_384, ge=1, description="Callers' connections per worker.")
    heartbeat_s: float = Field(15.0, gt=0, description="Comment on streams silent for this long.")
    drain_max_s: float = Field(
        30.0, ge=0, description="Running calls may finish for this long after SIGTERM."
    )
    journal_total_bytes_max: int = Field(
        1_073_741_824,
        ge=33_554_432,
        description="Unshipped journal per worker, beyond which calls are refused.",
    )
    ship_interval_s: float = Field(
        0.5, gt=0, description="Pause between two shipments of the journal."
    )
    response_ttl_s: int = Field(
        2_592_000, ge=60, description="Stored responses are deleted after this long."
    )
    alert_networks: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Private networks that alerts may be sent to, as `10.2.0.0/16`; public "
        "addresses always may.",
    )
    smtp_host: str | None = Field(None, description="Mail server for alerts by e-mail.")
    smtp_port: int = Field(587, ge=1, le=65_535, description="Its port; 465 speaks TLS at once.")
    smtp_user: str | None = Field(None, description="Name to sign in to it with.")
    smtp_password: _Reference | None = Field(
        None, description="Where its password is: `env:NAME`, `file:PATH` or `sealed:NAME`."
    )
    smtp_from: str = Field("tokenschain@localhost", description="Sender of alerts by e-mail.")
    smtp_tls: bool = Field(True, description="Insist on STARTTLS, or TLS on port 465.")
    oidc_issuer: str | None = Field(
        None, description="Issuer of an OpenID Connect provider that people sign in with."
    )
    oidc_client_id: str = Field("tokenschain", description="This platform's name there.")
    oidc_client_secret: _Reference | None = Field(
        None, description="Where its secret is: `env:NAME`, `file:PATH` or `sealed:NAME`."
    )
    oidc_groups_claim: str = Field("groups", description="Claim that lists a person's groups.")
    oidc_roles: dict[str, str] = Field(
        default_factory=dict,
        description="Groups there to roles here: `group: role@tenant`, or `role@*` for all.",
    )
    public_control_url: str | None = Field(
        None, description="Where browsers reach control, for signing in; by default this machine."
    )
    engine_url: str | None = Field(
        None,
        description="Base URL of any OpenAI-compatible server to stand in for the embedded "
        "engine, as `http://gpu-box:8000/v1`.",
    )
    engine_enabled: bool = Field(True, description="Run the embedded engine.")
    engine_host: str = Field("127.0.0.1", description="Address of the embedded engine.")
    engine_port: int = Field(8002, ge=0, le=65_535, description="Port of the chat engine.")
    embedder_port: int = Field(8003, ge=0, le=65_535, description="Port of the embedder.")
    semantic_host: str = Field(
        "127.0.0.1", description="Address of the process that compares questions for the cache."
    )
    semantic_port: int = Field(8004, ge=0, le=65_535, description="Its port.")
    semantic_urls: list[_HttpUrl] = Field(
        default_factory=list,
        description="Where control finds these processes, as `http://10.0.0.7:8004`, when they "
        "run on other machines; by default the one of this machine.",
    )
    semantic_memory_bytes_max: int = Field(
        268_435_456, ge=1_048_576, description="Answers it holds, in bytes."
    )
    engine_model: str = Field(
        "smollm2-135m-instruct",
        description="Name of the pulled model to serve, see `tokenschain model pull`.",
    )
    engine_chat_template_file: Path | None = Field(
        None, description="Jinja chat template for the engine in place of the model's own."
    )
    engine_slots: int = Field(4, ge=1, le=64, description="Calls the engine decodes at once.")
    engine_context_tokens: int = Field(
        2_048, ge=256, description="Context of each slot, prompt and answer together."
    )
    engine_reproducible: bool = Field(
        False,
        description="Answers at temperature 0 that do not depend on how the prompt was batched; "
        "prompts take as long a token as answers do.",
    )
    engine_threads: int = Field(0, ge=0, description="Threads of the engine; 0: all cores.")
    upstreams: list[UpstreamSettings] = Field(
        default_factory=list, description="Upstreams besides the engine; see below."
    )
    routing: RoutingSettings = Field(
        default_factory=RoutingSettings,
        description="How calls find their upstream; see below.",
    )
    cache: CacheSettings = Field(
        default_factory=CacheSettings,
        description="Which answers are given a second time; see below.",
    )
    unpriced_models: str = Field(
        "refuse",
        pattern="^(refuse|serve)$",
        description="Models without a known price: `refuse`, or `serve` and record no cost.",
    )
    log_format: str = Field("auto", pattern="^(auto|json|text)$", description="Log lines' form.")

    @field_validator(
        "trusted_proxies", "cors_origins", "image_networks", "alert_networks", mode="before"
    )
    @classmethod
    def _split(cls, value: Any) -> Any:
        return (
            tuple(p.strip() for p in value.split(",") if p.strip())
            if isinstance(value, str)
            else value
        )

    @field_validator("trusted_proxies", "image_networks", "alert_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    @property
    def database(self) -> str:
        """The database's URL."""
        return self.database_url or f"sqlite:///{self.data_dir / 'tokenschain.db'}"

    @property
    def control_base_url(self) -> str:
        """Where gateways reach control."""
        return self.control_url or f"http://{_reachable(self.control_host)}:{self.control_port}"

    @property
    def gateway_base_url(self) -> str:
        """Where callers on this machine reach the gateway, up to `/v1`."""
        scheme = "https" if self.tls_certificate_file else "http"
        return f"{scheme}://{_reachable(self.host)}:{self.port}/v1"

    @property
    def semantic_base_urls(self) -> list[str]:
        """Where the processes that compare questions are."""
        here = f"http://{_reachable(self.semantic_host)}:{self.semantic_port}"
        return self.semantic_urls or [here]

    @property
    def internal_secret_path(self) -> Path:
        return self.internal_secret_file or self.data_dir / "secrets" / "internal"

    @property
    def semantic_state_path(self) -> Path:
        """What the process that compares questions has learned; figures, no text."""
        return self.data_dir / "semantic" / "learned"

    @property
    def operator_token_path(self) -> Path:
        """What lets this machine's own commands administer; only its owner reads it."""
        return self.data_dir / "secrets" / "operator"

    @property
    def master_key_path(self) -> Path:
        """What seals the secrets in the vault."""
        return self.master_key_file or self.data_dir / "secrets" / "master"

    @property
    def vault_path(self) -> Path:
        return self.data_dir / "secrets" / "sealed"

    @property
    def engine_key_path(self) -> Path:
        return self.data_dir / "secrets" / "engine"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags beat the environment, the environment beats the file."""
        return init_settings, env_settings, _FileSource(settings_cls)


class _FileSource(InitSettingsSource):
    """The YAML file named by `TOKENSCHAIN_CONFIG`, or `tokenschain.yaml` here."""

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        path = config_file()
        values: dict[str, Any] = {}
        if path is not None:
            loaded = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
            if not isinstance(loaded, dict):
                raise SettingsError(f"{path}: must hold `name: value` lines")
            values = loaded
        super().__init__(settings_cls, values)


class SettingsError(Exception):
    """A wrong setting: names it, its value and what to do."""


def config_file() -> Path | None:
    """The settings file in force, if there is one.

    Raises:
        SettingsError: the named file does not exist.
    """
    named = os.environ.get(f"{ENV_PREFIX}CONFIG")
    if named:
        path = Path(named)
        if not path.is_file():
            raise SettingsError(f"{ENV_PREFIX}CONFIG names {named}, which is not a file")
        return path
    path = Path(DEFAULT_FILE)
    return path if path.is_file() else None


def load(**overrides: Any) -> Settings:
    """The settings in force.

    Raises:
        SettingsError: naming each wrong setting, its value and the remedy.
    """
    known = {f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields}
    known |= {f"{ENV_PREFIX}CONFIG", ADMIN_TOKEN_VARIABLE}
    unknown = sorted(n for n in os.environ if n.startswith(ENV_PREFIX) and n not in known)
    if unknown:
        raise SettingsError(
            f"unknown setting {unknown[0]}: unset it, or see docs/reference/settings.md for names"
        )
    try:
        settings = Settings(**{k: v for k, v in overrides.items() if v is not None})
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(found) for found in error.errors())) from None
    if bool(settings.tls_certificate_file) != bool(settings.tls_key_file):
        raise SettingsError("tls_certificate_file and tls_key_file belong together: set both")
    settings.data_dir = settings.data_dir.expanduser().absolute()
    return settings


def _explain(found: Any) -> str:
    name = ".".join(map(str, found["loc"]))
    shown = repr(found.get("input"))[:100]
    variable = f"{ENV_PREFIX}{str(found['loc'][0]).upper()}" if found["loc"] else ENV_PREFIX
    if found["type"] == "extra_forbidden":
        return f"unknown setting {name}: remove it, or see docs/reference/settings.md for names"
    return f"setting {name} = {shown}: {found['msg']}. Set {variable} or `{name}:` in the file."


def sources(settings: Settings) -> dict[str, str]:
    """Where each setting's value comes from: environment, file or default."""
    path = config_file()
    in_file: dict[str, Any] = {}
    if path is not None:
        in_file = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    found = {}
    for name in Settings.model_fields:
        if f"{ENV_PREFIX}{name}".upper() in {n.upper() for n in os.environ}:
            found[name] = "environment"
        elif name in in_file:
            found[name] = str(path)
        else:
            found[name] = "default"
    return found


def _reachable(host: str) -> str:
    """A listening address as one to connect to on the same machine."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
