"""What a test of an upstream found: credential, connection, models, one small call.

Each step says what failed and how to mend it. Whoever does the steps is a `UpstreamTester`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, get_args

from tokenschain.core.snapshot import Offer, Upstream

TEST_MAX_S = 15.0
"""For all steps: whoever asks is answered in time."""
MODELS_MAX = 2_000
"""Of an upstream's own list, as many are read."""

Step = Literal["credential", "connection", "models", "call"]
StepOutcome = Literal["ok", "failed", "skipped"]


class StepResult(NamedTuple):
    """One step of a test."""

    step: Step
    outcome: StepOutcome
    message: str
    """What was found, or why it was left out."""
    remedy: str = ""
    """What to do about it, where it failed."""
    took_ms: int | None = None


class UpstreamReport(NamedTuple):
    """What a test found."""

    steps: tuple[StepResult, ...]
    models: tuple[str, ...] | None = None
    """The models that the upstream lists; None where it has no list that can be read."""


class Trial(NamedTuple):
    """What is called to see whether it works."""

    kind: str
    """`chat`, `embedding` or `rerank`."""
    offer: Offer


class UpstreamTester(Protocol):
    """Tests upstreams; see `providers.upstream_tester`."""

    async def test(
        self, upstream: Upstream, trial: Trial | None, stored: Mapping[str, str]
    ) -> UpstreamReport:
        """Test one, within `TEST_MAX_S`.

        Args:
            trial: None where no model of it is served.
            stored: secrets of stored credentials, by reference.

        Raises:
            ApiError: `server_busy`: enough tests are under way, or one of the same tenant.
        """


MENDS = {
    "upstream_rejected_credentials": "store a key that is valid there: `tokenschain "
    "upstream-credentials set`; some vendors have keys for each region",
    "upstream_access_denied": "let the account use this model in the vendor's console, or take it "
    "out of `models`",
    "upstream_out_of_funds": "top up the account at the vendor",
    "upstream_model_not_found": "correct its name in `models`: `models: {ours: theirs}` where the "
    "vendor has another",
    "upstream_rate_limited": "try again in a minute, or ask the vendor for a higher limit",
    "upstream_overloaded": "try again in a minute",
    "upstream_timeout": "see whether it is up; a model that loads may need a longer "
    "`first_byte_max_s`",
    "upstream_unreachable": "see whether `base_url` is right and this machine may go there "
    "(firewall, `egress.proxy`)",
    "upstream_invalid_reply": "see whether `base_url` is that of its API, up to and including the "
    "version, and `provider` the right one",
    "upstream_interrupted": "try again; if it stays so, look at the upstream's own log",
    "upstream_failed": "try again; if it stays so, look at the upstream's own log",
    "no_upstream": "store its key: `tokenschain upstream-credentials set`",
}
"""What to do about an error of a call, by its code."""
MEND_VARIABLE = (
    "a gateway gets the variables that are named as it starts: set it there and restart the "
    "gateway, or store the key with `tokenschain upstream-credentials set NAME` and name it "
    "`stored:NAME`, which needs no restart"
)
"""What to do about a credential in the environment that a gateway has not got."""
MEND_HOST = "see the host in `base_url`"
MEND_CERTIFICATE = (
    "see whether its certificate is valid for the host in `base_url`; for an authority of your own "
    "set `egress.ca_file`"
)
MEND_MODELS = "name `models`, or set their `prices`"
MEND_REFERENCE = (
    "store it with `tokenschain upstream-credentials set NAME` and name it `stored:NAME`; what is "
    "in the environment or a file of a gateway's machine is not seen by control elsewhere"
)
NO_CONNECTION = "there is no connection"
NO_CREDENTIAL = "there is no credential"
NO_CREDENTIAL_CONFIGURED = "none is configured"
NO_MODEL_SERVED = "no model of it is served: the catalog has no price for any of `models`"
MEND_OTHERS = "see whether `provider` and `models` are right: it refuses what it is asked"
TEXTS: tuple[str, ...] = (
    *get_args(Step), *MENDS.values(), MEND_VARIABLE, MEND_HOST, MEND_CERTIFICATE, MEND_MODELS,
    MEND_REFERENCE, MEND_OTHERS, NO_CONNECTION, NO_CREDENTIAL, NO_CREDENTIAL_CONFIGURED,
    NO_MODEL_SERVED,
)  # fmt: skip
"""What is said in these very words, and so in other languages, too."""
