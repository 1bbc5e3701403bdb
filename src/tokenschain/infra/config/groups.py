"""The settings by group: each with its type, its range, its default and its purpose.

What control publishes to gateways (`core.snapshot`) is declared there and only taken up here.
"""

from __future__ import annotations

import os
import socket
from decimal import Decimal
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from tokenschain.core.snapshot import Routing, Upstream
from tokenschain.core.snapshot.cache_rules import CacheRules
from tokenschain.core.snapshot.zones import ZONES, Zone
from tokenschain.infra.config.access import AccessSettings
from tokenschain.infra.config.audit import AuditSettings
from tokenschain.infra.config.crypto import CryptoSettings
from tokenschain.infra.config.key_store import KeyStoreSettings
from tokenschain.infra.config.mail import AlertsSettings, SmtpSettings
from tokenschain.infra.config.moderation import ModerationSettings
from tokenschain.infra.config.server import ServerSettings
from tokenschain.infra.config.sign_in import OidcSettings, SignUpSettings
from tokenschain.infra.config.sovereignty import SovereigntySettings
from tokenschain.infra.config.value_types import (
    HOLDS_PASSWORD,
    GuardedOperation,
    HttpUrl,
    Network,
    Port,
    Reference,
    UpstreamCredential,
)

TAGS_PER_KEY_DAY_MAX = 5_000
RESPONSE_BYTES_PER_TENANT_MAX = 10_737_418_240
FIND_WAIT_MAX_S = 0.4
"""How long a call waits for the process that compares questions."""


PRICE_MAX = 1_000_000
"""Of 1,000,000 tokens, in either currency: hundreds of times what any model costs."""


class PriceSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A price the operator sets, per 1,000,000 tokens."""

    currency: Annotated[
        Literal["CNY", "USD"], Meta(description="Currency of the amounts.")
    ] = "CNY"  # fmt: skip
    input: Annotated[Decimal, Meta(description="Price of 1,000,000 prompt tokens.")]
    output: Annotated[Decimal, Meta(description="Price of 1,000,000 generated tokens.")]
    cached_input: Annotated[
        Decimal | None,
        Meta(
            description="Price of 1,000,000 prompt tokens that the upstream had cached; as "
            "`input` if unset."
        ),
    ] = None

    def __post_init__(self) -> None:
        for price in (self.input, self.output, self.cached_input or Decimal()):
            if not price.is_finite() or price > PRICE_MAX:
                raise ValueError(f"a price must be at most {PRICE_MAX}")
            if price < 0:
                raise ValueError("a price must not be negative")


class UpstreamSettings(Upstream, frozen=True, kw_only=True):
    """An upstream as the operator sets it: published, but for where keys and prices come from.

    In the file, the fields of `limits` stand beside the others.
    """

    published_only: ClassVar[tuple[str, ...]] = ("credentials", "limits")
    credential: Annotated[
        tuple[UpstreamCredential, ...],
        Meta(
            description="Where its key is, or a list of several: `env:NAME`, `file:PATH`, "
            "`sealed:NAME` (`tokenschain secrets set`), or `stored:NAME` for a credential of "
            "control's database (`tokenschain upstream-credentials set`). Never the key itself."
        ),
    ] = ()
    models: Annotated[
        dict[str, str] | list[str] | None,
        Meta(
            description="Names callers use, or a mapping of those to the upstream's names; all of "
            "the catalog by default."
        ),
    ] = None
    prices: Annotated[
        dict[str, PriceSettings],
        Meta(description="Prices by the upstream's model name; they beat the catalog."),
    ] = field(default_factory=dict)
    kinds: Annotated[
        dict[str, Literal["chat", "embedding", "rerank"]],
        Meta(description="Kinds by the upstream's model name, for models not in the catalog."),
    ] = field(default_factory=dict)


class HelpingModelSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A model elsewhere that sees the texts of calls, so that residency rules hold for it too."""

    zone: Annotated[
        Literal[Zone, ""],
        Meta(
            description="Where the server's machines are, for residency rules: "
            f"{', '.join(ZONES)}. Where it is unknown, no call under a rule is compared by meaning."
        ),
    ] = ""


class JudgeSettings(HelpingModelSettings, frozen=True, kw_only=True):
    """A chat model that says whether a cached answer fits."""

    base_url: Annotated[
        HttpUrl,
        Meta(
            description="Address of an OpenAI-compatible server, with its version; this gateway's "
            "own will do."
        ),
    ]
    model: Annotated[str, Meta(description="Name of the judging model there.")]
    credential: Annotated[
        Reference | None,
        Meta(description="Where its key is: `env:NAME`, `file:PATH` or `sealed:NAME`."),
    ] = None
    decides: Annotated[
        bool,
        Meta(
            description="Whether it is asked also while a caller waits, whether a cached answer "
            "that is in doubt may be given. Otherwise it only compares answers afterwards."
        ),
    ] = False
    wait_max_s: Annotated[
        float,
        Meta(gt=0, le=10, description="Longest wait for its word, in seconds; silence is a no."),
    ] = 2.0
    calls_per_minute: Annotated[
        int, Meta(ge=1, description="How often it is asked at most, per minute.")
    ] = 600


class EmbedderSettings(HelpingModelSettings, frozen=True, kw_only=True):
    """An embedding model in place of the better of the two that come with the platform."""

    base_url: Annotated[
        HttpUrl,
        Meta(description="Address of a server with OpenAI's `/embeddings`, with its version."),
    ]
    model: Annotated[str, Meta(description="Name of the embedding model there.")]
    dimensions: Annotated[int, Meta(ge=8, le=4_096, description="Length of its vectors.")]
    credential: Annotated[
        Reference | None,
        Meta(description="Where its key is: `env:NAME`, `file:PATH` or `sealed:NAME`."),
    ] = None
    wait_max_s: Annotated[
        float,
        Meta(
            gt=0, le=5, description="Longest wait for its vectors, in seconds; silence is a miss."
        ),
    ] = 0.3


class CacheSettings(CacheRules, frozen=True, kw_only=True):
    """The published cache rules, and the models that help to compare questions."""

    published_only: ClassVar[tuple[str, ...]] = ("flushed", "classes")

    judge: Annotated[
        JudgeSettings | None,
        Meta(description="A chat model that says whether a cached answer fits; see below."),
    ] = None
    embedder: Annotated[
        EmbedderSettings | None,
        Meta(
            description="An embedding model in place of the better of the two that come with the "
            "platform; see below."
        ),
    ] = None

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


class TlsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """HTTPS for callers of the gateway."""

    certificate_file: Annotated[
        Path | None,
        Meta(description="File of the PEM certificate chain; with it the gateway speaks HTTPS."),
    ] = None
    key_file: Annotated[
        Path | None, Meta(description="File of the PEM key of that certificate.")
    ] = None  # fmt: skip


class EgressSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the gateway calls: upstreams and images."""

    ca_file: Annotated[
        Path | None,
        Meta(description="PEM file of extra certificate authorities to trust for upstreams."),
    ] = None
    proxy: Annotated[
        str | None,
        HOLDS_PASSWORD,
        Meta(
            description="Address of a proxy that understands CONNECT for calls to upstreams, as "
            "`http://host:port`."
        ),
    ] = None
    image_networks: Annotated[
        tuple[Network, ...],
        Meta(
            description="Private networks that images may be fetched from, as `10.2.0.0/16`, for "
            "upstreams that take images only as data; public addresses always may."
        ),
    ] = ()
    image_bytes_total_max: Annotated[
        int,
        Meta(
            ge=16_777_216,
            description="Most bytes of images that are fetched for running calls at one time, for "
            "each worker; more is refused with 429.",
        ),
    ] = 134_217_728
    reply_bytes_total_max: Annotated[
        int,
        Meta(
            ge=67_108_864,
            description="Most bytes of upstreams' answers that are held for running calls at one "
            "time, for each worker: bodies that are read whole, events that are not complete. One "
            "tenant may hold half. More is refused with 429.",
        ),
    ] = 536_870_912


class ControlSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The control plane: admin API and console."""

    host: Annotated[str, Meta(description="Address control listens on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port control listens on.")] = 8001
    url: Annotated[
        HttpUrl | None,
        Meta(description="Address where a gateway finds control; by default on this machine."),
    ] = None
    public_url: Annotated[
        HttpUrl | None,
        Meta(
            description="Address where browsers reach control, for signing in; by default on this "
            "machine."
        ),
    ] = None
    gateway_url: Annotated[
        HttpUrl | None,
        Meta(
            description="Address where the console's playground and its readers' applications "
            "reach the gateway, up to `/v1`; by default on this machine."
        ),
    ] = None
    trusted_proxies: Annotated[
        tuple[Network, ...],
        Meta(
            description="Networks whose `X-Forwarded-For` control believes, as `10.0.0.0/8`: for "
            "the audit log, and the delay after wrong sign-ins."
        ),
    ] = ()
    second_factor_required: Annotated[
        bool,
        Meta(
            description="Whether all who sign in with a password need a second factor, "
            "whatever their tenant demands; who has none sets it up before anything else."
        ),
    ] = False
    second_person_for: Annotated[
        tuple[GuardedOperation, ...],
        Meta(
            description="What a second person approves before it is done: exports of calls, of "
            "what they said, its erasure and opening in bulk, the release of legal holds, the "
            "platform's credentials, its moderation policies, roles on the platform, acts on keys "
            "by commands of the machine, and no longer keeping powers apart."
        ),
    ] = ()
    contents_opened_alone_max: Annotated[
        int,
        Meta(
            ge=0,
            description="How many calls' contents a person opens within a day before "
            "`content:open` takes a second person.",
        ),
    ] = 10
    signature_for: Annotated[
        tuple[GuardedOperation, ...],
        Meta(
            description="What whoever asks for it signs with a key of their own; the same "
            "operations as of `second_person_for`."
        ),
    ] = ()
    second_person_hours: Annotated[
        int, Meta(ge=1, le=720, description="Within how many hours it is approved and done.")
    ] = 24
    holidays_file: Annotated[
        Path | None,
        Meta(
            description="YAML file with China's holidays of years that are not built in, or "
            "changed; deadlines in working days follow it. Read at the start of control."
        ),
    ] = None
    body_bytes_max: Annotated[
        int,
        Meta(
            ge=65_536,
            description="Largest request body of the admin API, in bytes; what gateways ship has "
            "limits of its own.",
        ),
    ] = 1_048_576
    configuration_changes_per_minute_max: Annotated[
        int,
        Meta(
            ge=1,
            description="Most changes of a tenant's configuration in a minute by its own people; "
            "each is sent to every gateway.",
        ),
    ] = 60
    operator_changes_per_minute_max: Annotated[
        int,
        Meta(
            ge=1,
            description="The same by people of the platform, of one tenant's configuration or of "
            "the platform's.",
        ),
    ] = 1_200
    connections_max: Annotated[
        int,
        Meta(
            ge=16,
            description="Most connections to control, at most half of them from one address; "
            "fewer where the process may not open as many files.",
        ),
    ] = 4_096


class DatabaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The database of control, and how long rows are kept in it."""

    url: Annotated[
        str | None,
        HOLDS_PASSWORD,
        Meta(
            description="SQLAlchemy URL; by default a SQLite file in `data_dir`. For PostgreSQL: "
            "`postgresql://user:password@host/name`."
        ),
    ] = None
    connections_max: Annotated[
        int, Meta(ge=2, le=500, description="Most connections of one control to PostgreSQL.")
    ] = 10
    start_wait_s: Annotated[
        float,
        Meta(ge=0, le=3_600, description="How long a start waits for PostgreSQL, in seconds."),
    ] = 30.0
    ledger_days: Annotated[
        int, Meta(ge=1, description="Days after which single calls are deleted; sums stay.")
    ] = 400
    response_ttl_s: Annotated[
        int, Meta(ge=60, description="Seconds after which stored responses are deleted.")
    ] = 2_592_000
    response_bytes_per_tenant_max: Annotated[
        int,
        Meta(
            ge=0,
            description="Bytes of stored responses of one tenant; beyond, answers are given and "
            "say that they are not stored.",
        ),
    ] = RESPONSE_BYTES_PER_TENANT_MAX
    tags_per_key_day_max: Annotated[
        int,
        Meta(
            ge=1,
            description="Tags of one key and day with sums of their own; those of all others are "
            "kept under `other`.",
        ),
    ] = TAGS_PER_KEY_DAY_MAX


class RedisSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The store that gateways share."""

    url: Annotated[
        str | None,
        HOLDS_PASSWORD,
        Meta(
            description="Address of Redis for what gateways share, as "
            "`redis://:password@host:6379/0`; without it, one gateway counts by itself and "
            "several count through control."
        ),
    ] = None


class SecretsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Files of the platform's own secrets."""

    internal_secret_file: Annotated[
        Path | None,
        Meta(
            description="File with the secret that gateway and control share; by default made in "
            "`data_dir`."
        ),
    ] = None
    master_key_file: Annotated[
        Path | None,
        Meta(
            description="File with the key that seals secrets (`tokenschain secrets set`); by "
            "default made in `data_dir`."
        ),
    ] = None
    metrics_token_file: Annotated[
        Path | None,
        Meta(description="File with the token for `/metrics`; by default made in `data_dir`."),
    ] = None
    references: Annotated[
        tuple[str, ...],
        Meta(
            description="What an upstream made by the API may name as its key; `*` stands for any "
            "part of a name. The platform's own secrets never."
        ),
    ] = ("env:*", "sealed:*", "file:/run/secrets/*", "file:/etc/tokenschain/credentials/*")


class JournalSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The gateway's record of calls on disk."""

    total_bytes_max: Annotated[
        int,
        Meta(
            ge=33_554_432,
            description="Largest unshipped journal of each worker, in bytes, beyond which calls "
            "are refused.",
        ),
    ] = 1_073_741_824
    ship_interval_s: Annotated[
        float, Meta(gt=0, description="Pause between two shipments to control, in seconds.")
    ] = 0.5


class EngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The embedded model server, or another one in its place."""

    url: Annotated[
        HttpUrl | None,
        Meta(
            description="Base URL of any OpenAI-compatible server to stand in for the embedded "
            "engine, as `http://gpu-box:8000/v1`."
        ),
    ] = None
    enabled: Annotated[bool, Meta(description="Whether the embedded engine runs.")] = True
    host: Annotated[str, Meta(description="Address the engine listens on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port of the chat engine.")] = 8002
    embedder_port: Annotated[Port, Meta(description="Port of the embedder.")] = 8003
    model: Annotated[
        str, Meta(description="Name of the pulled model to serve; see `tokenschain model pull`.")
    ] = "smollm2-135m-instruct"
    chat_template_file: Annotated[
        Path | None,
        Meta(description="File of a Jinja chat template in place of the model's own."),
    ] = None
    slots: Annotated[
        int, Meta(ge=1, le=64, description="Number of calls the engine decodes at once.")
    ] = 4  # fmt: skip
    context_tokens: Annotated[
        int,
        Meta(ge=256, description="Context of each slot, prompt and answer together, in tokens."),
    ] = 2_048
    reproducible: Annotated[
        bool,
        Meta(
            description="Whether answers at temperature 0 do not depend on how the prompt was "
            "batched; prompts then take as long a token as answers do."
        ),
    ] = False
    threads: Annotated[
        int, Meta(ge=0, description="Number of the engine's threads; 0 for all cores.")
    ] = 0  # fmt: skip


class SemanticSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The process that compares questions for the semantic cache."""

    host: Annotated[str, Meta(description="Address the process listens on.")] = "127.0.0.1"
    port: Annotated[Port, Meta(description="Port the process listens on.")] = 8004
    urls: Annotated[
        tuple[HttpUrl, ...],
        Meta(
            description="Where control finds these processes, as `http://10.0.0.7:8004`, when "
            "they run on other machines; by default the one of this machine."
        ),
    ] = ()
    memory_bytes_max: Annotated[
        int,
        Meta(
            ge=1_048_576,
            description="Memory for the answers it holds, and their questions, in bytes.",
        ),
    ] = 268_435_456


def _data_folder() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME", "~/.local/share")).expanduser() / "tokenschain"


MailWarning = Literal["sign_up_without_mail", "links_without_public_url"]
"""Nobody can sign up, since no mail server is set; or links in mails lead to this machine alone."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything an operator can set."""

    data_dir: Annotated[
        Path, Meta(description="Folder for the database, the journal, secrets and models.")
    ] = field(default_factory=_data_folder)
    server: ServerSettings = ServerSettings()
    tls: TlsSettings = TlsSettings()
    egress: EgressSettings = EgressSettings()
    control: ControlSettings = ControlSettings()
    database: DatabaseSettings = DatabaseSettings()
    redis: RedisSettings = RedisSettings()
    secrets: SecretsSettings = SecretsSettings()
    crypto: CryptoSettings = CryptoSettings()
    key_store: KeyStoreSettings = KeyStoreSettings()
    journal: JournalSettings = JournalSettings()
    audit: AuditSettings = AuditSettings()
    access: AccessSettings = AccessSettings()
    alerts: AlertsSettings = AlertsSettings()
    smtp: SmtpSettings = SmtpSettings()
    oidc: OidcSettings = OidcSettings()
    sign_up: SignUpSettings = SignUpSettings()
    engine: EngineSettings = EngineSettings()
    semantic: SemanticSettings = SemanticSettings()
    upstreams: Annotated[
        tuple[UpstreamSettings, ...], Meta(description="Upstreams besides the engine; see below.")
    ] = ()
    routing: Annotated[Routing, Meta(description="How calls find their upstream; see below.")] = (
        Routing()
    )
    cache: Annotated[
        CacheSettings, Meta(description="Which responses are cached and served again; see below.")
    ] = CacheSettings()
    moderation: ModerationSettings = ModerationSettings()
    sovereignty: SovereigntySettings = SovereigntySettings()
    unpriced_models: Annotated[
        Literal["refuse", "serve"],
        Meta(
            description="Whether models without a known price are refused, or served and recorded "
            "without a cost."
        ),
    ] = "refuse"
    log_format: Annotated[
        Literal["auto", "json", "text"],
        Meta(description="Form of the log lines; `auto` is text on a terminal, else JSON."),
    ] = "auto"

    @property
    def database_url(self) -> str:
        """The database's URL."""
        return self.database.url or f"sqlite:///{self.data_dir / 'tokenschain.db'}"

    @property
    def node_name(self) -> str:
        """The gateway's name in the log and in call records."""
        return self.server.name or f"{socket.gethostname()[:40]}-{self.server.port}"

    @property
    def control_base_url(self) -> str:
        """Where gateways reach control."""
        control = self.control
        return control.url or f"http://{reachable(control.host)}:{control.port}"

    @property
    def console_base_url(self) -> str:
        """Where browsers reach the console, for links in mails."""
        return self.control.public_url or self.control_base_url

    @property
    def takes_sign_ups(self) -> bool:
        """Whether anyone may sign up: it is switched on, and addresses can be confirmed."""
        return self.sign_up.enabled and self.smtp.host is not None

    @property
    def mail_warnings(self) -> tuple[MailWarning, ...]:
        """What keeps people from coming in by links in mails."""
        found: list[MailWarning] = []
        if self.sign_up.enabled and self.smtp.host is None:
            found.append("sign_up_without_mail")
        if self.control.public_url is None and (self.sign_up.enabled or self.smtp.host):
            found.append("links_without_public_url")
        return tuple(found)

    @property
    def gateway_base_url(self) -> str:
        """Where callers on this machine reach the gateway, up to `/v1`."""
        scheme = "https" if self.tls.certificate_file else "http"
        return f"{scheme}://{reachable(self.server.host)}:{self.server.port}/v1"

    @property
    def semantic_base_url(self) -> str:
        """Where this machine's process that compares questions is."""
        return f"http://{reachable(self.semantic.host)}:{self.semantic.port}"

    @property
    def semantic_base_urls(self) -> list[str]:
        """Where the processes that compare questions are."""
        return list(self.semantic.urls) or [self.semantic_base_url]

    @property
    def runs_engine(self) -> bool:
        """Whether the embedded engine is one of this machine's processes."""
        return self.engine.enabled and not self.engine.url

    @property
    def gateway_processes(self) -> int:
        """How many gateway processes there are in all."""
        return self.server.workers * self.server.gateways

    @property
    def internal_secret_path(self) -> Path:
        return self.secrets.internal_secret_file or self.data_dir / "secrets" / "internal"

    @property
    def moderation_packs_path(self) -> Path:
        """Where keyword packs are."""
        return self.moderation.packs_dir or self.data_dir / "moderation" / "packs"

    @property
    def semantic_state_path(self) -> Path:
        """What the process that compares questions has learned; figures, no text."""
        return self.data_dir / "semantic" / "learned"

    @property
    def semantic_wanted_path(self) -> Path:
        """There while anyone's questions are compared by meaning; `tokenschain up` looks."""
        return self.data_dir / "semantic" / "wanted"

    @property
    def operator_token_path(self) -> Path:
        """What lets this machine's own commands administer; only its owner reads it."""
        return self.data_dir / "secrets" / "operator"

    @property
    def metrics_token_path(self) -> Path:
        """What Prometheus shows to read metrics."""
        return self.secrets.metrics_token_file or self.data_dir / "secrets" / "metrics"

    @property
    def master_key_path(self) -> Path:
        """What seals the secrets in the vault."""
        return self.secrets.master_key_file or self.data_dir / "secrets" / "master"

    @property
    def audit_key_path(self) -> Path:
        """What signs the audit log's checkpoints."""
        return self.audit.key_file or self.data_dir / "secrets" / "audit"

    @property
    def destroyed_keys_path(self) -> Path:
        """Ids of destroyed keys of content, so that no backup brings them back."""
        return self.data_dir / "destroyed-keys"

    @property
    def vault_path(self) -> Path:
        return self.data_dir / "secrets" / "sealed"

    @property
    def engine_key_path(self) -> Path:
        return self.data_dir / "secrets" / "engine"


def reachable(host: str) -> str:
    """A listening address as one to connect to on the same machine, as it stands in a URL."""
    found = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nosec B104  # never bound to
    return f"[{found}]" if ":" in found else found
