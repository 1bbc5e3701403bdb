"""Settings of moderation: cloud engines that screen texts, and reviews by several of them."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tokenschain.core.snapshot.zones import Zone
from tokenschain.infra.config.value_types import HttpUrl, Reference

ModerationVendorName = Literal[
    "alibaba-green", "tencent-tianyu", "baidu-censor", "huawei-moderation"
]
_PLACE = r"^[a-z0-9-]{0,40}\Z"
_PLAIN = r"^[\w.-]{0,64}\Z"
ENGINES_OF_A_REVIEW_MAX = 3
PRICE_MAX = 10_000


class ModerationEngineSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One account at a cloud's content moderation. What is screened there is sent there."""

    vendor: Annotated[ModerationVendorName, Meta(description="Whose service it is.")]
    credential: Annotated[
        Reference,
        Meta(
            description="Where its key pair is, of the form `id:secret`: `env:NAME`, `file:PATH` "
            "or `sealed:NAME`. Never the keys themselves."
        ),
    ]
    region: Annotated[
        str,
        Meta(
            pattern=_PLACE,
            description="Region of the service; the vendor's first one in mainland China by "
            "default. Baidu has none.",
        ),
    ] = ""
    zone: Annotated[
        Literal[Zone, ""],
        Meta(
            description="The data zone that it is in; where unset, it is not asked about calls "
            "under a residency rule."
        ),
    ] = ""
    project: Annotated[
        str, Meta(pattern=_PLAIN, description="For Huawei, where it is required: the project's id.")
    ] = ""
    strategy: Annotated[
        str,
        Meta(
            pattern=_PLAIN,
            description="Name of the vendor's policy for texts (`BizType`, `strategyId`, "
            "`biz_type`); the account's default if unset. Alibaba's is set in its console.",
        ),
    ] = ""
    image_strategy: Annotated[
        str, Meta(pattern=_PLAIN, description="The same for pictures, of Tencent.")
    ] = ""
    base_url: Annotated[
        HttpUrl | None,
        Meta(description="Address in place of the vendor's own, as of a VPC endpoint."),
    ] = None
    image_base_url: Annotated[
        HttpUrl | None, Meta(description="The same for pictures, of Tencent.")
    ] = None
    calls_per_second: Annotated[
        float,
        Meta(
            ge=0,
            le=100_000,
            description="Requests that each gateway process may make in a second; what the vendor "
            "allows an account by default where 0.",
        ),
    ] = 0.0
    calls_per_day: Annotated[
        int,
        Meta(
            ge=0,
            description="Requests that each gateway process may make in a day (UTC); without such "
            "a bound where 0.",
        ),
    ] = 0
    price_cny: Annotated[
        Decimal,
        Meta(description="What 10,000 requests cost, in yuan; 0 where that is not known."),
    ] = Decimal(0)
    price_cny_per_1000_characters: Annotated[
        Decimal,
        Meta(
            description="What 1,000 characters cost, in yuan, where the contract is by length; "
            "added to the price of requests."
        ),
    ] = Decimal(0)
    charges_withdrawn: Annotated[
        bool,
        Meta(
            description="Whether requests that were withdrawn, since another engine answered "
            "first, count as costs: the vendor has answered them all the same, as a rule."
        ),
    ] = True
    on_failure: Annotated[
        Literal["", "block", "local"],
        Meta(
            description="What becomes of a call when this engine gives no verdict and no other "
            "takes its place: it is blocked, or the others and the local rules decide. As the "
            "policy says if unset."
        ),
    ] = ""

    def __post_init__(self) -> None:
        for name in ("price_cny", "price_cny_per_1000_characters"):
            price: Decimal = getattr(self, name)
            if not price.is_finite() or not 0 <= price <= PRICE_MAX:
                raise ValueError(f"{name} must be from 0 to {PRICE_MAX}")
        if self.vendor == "huawei-moderation" and not self.project:
            raise ValueError("huawei-moderation needs the id of its project")


class ModerationReviewSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Several engines as one, for policies that want a second opinion."""

    engines: Annotated[
        tuple[str, ...],
        Meta(
            min_length=1,
            max_length=ENGINES_OF_A_REVIEW_MAX,
            description="Names of engines, in the order in which they are asked.",
        ),
    ]
    verdicts: Annotated[
        int,
        Meta(
            ge=1,
            le=2,
            description="How many verdicts are wanted: with one, the next engine is asked when one "
            "is slow or fails; with two, both must have their say.",
        ),
    ] = 1
    arbitration: Annotated[
        Literal["agree", "stricter", "third"],
        Meta(
            description="Whose word counts where two disagree: only what both flag, what either "
            "flags, or as a third engine says. Every disagreement is for review."
        ),
    ] = "stricter"

    def __post_init__(self) -> None:
        if len(set(self.engines)) < max(self.verdicts, len(self.engines)):
            raise ValueError("a review needs as many different engines as it names and wants")
        if self.arbitration == "third" and len(self.engines) < ENGINES_OF_A_REVIEW_MAX:
            raise ValueError("`arbitration: third` needs three engines")


class ModerationSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Keyword packs and cloud engines of moderation. Policies are resources, see
    `moderation-policies`: they say which of them screen what."""

    packs_dir: Annotated[
        Path | None,
        Meta(
            description="Folder of signed keyword packs, the same on each machine with a gateway; "
            "a change is in force within seconds. `moderation/packs` in the data folder by "
            "default."
        ),
    ] = None
    pack_keys: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^([A-Za-z0-9+/]{43}|sm2:B[A-Za-z0-9+/]{86})=\Z")], ...],
        Meta(
            max_length=20,
            description="Public keys of those who may sign packs, as `tokenschain moderation "
            "new-key` prints them: Ed25519 in base64, or SM2 behind `sm2:`. Without one, only "
            "the seed pack is used.",
        ),
    ] = ()
    engines: Annotated[
        dict[str, ModerationEngineSettings],
        Meta(description="Cloud moderation engines by name; see below."),
    ] = {}
    reviews: Annotated[
        dict[str, ModerationReviewSettings],
        Meta(description="Reviews by several engines, by the name that policies use; see below."),
    ] = {}

    def __post_init__(self) -> None:
        for name, review in self.reviews.items():
            if name in self.engines:
                raise ValueError(f"`{name}` names an engine and a review")
            for engine in review.engines:
                if engine not in self.engines:
                    raise ValueError(f"reviews.{name}: there is no engine `{engine}`")
