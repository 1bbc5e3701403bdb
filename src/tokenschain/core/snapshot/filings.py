"""Model register: filings and registrations of models with the authorities, and which are in force.

Interim Measures for the Management of Generative AI Services, Art. 17: a service to the public
files its model; one that only calls a filed model is registered. Provisions on Algorithm
Recommendation, Arts. 24 to 26: the algorithm is filed, too, and its number shown.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from tokenschain.core.errors import ApiError
from tokenschain.core.snapshot import Plan

FilingKind = Literal["generative-ai", "registration", "algorithm"]
NUMBER_CHARACTERS_MAX = 100
MODELS_MAX = 500
Day = Annotated[str, Meta(pattern=r"^(\d{4}-\d{2}-\d{2})?\Z")]
"""As `2026-01-31`, in China; empty: not known, or not yet."""
_Text = Annotated[str, Meta(max_length=200)]
_SERVES: tuple[FilingKind, ...] = ("generative-ai", "registration")
"""Kinds that let a model serve the public; an algorithm's filing is asked for beside them."""


class Filing(msgspec.Struct, frozen=True, kw_only=True):
    """A number that an authority gave, for which models, and where that is written."""

    kind: Annotated[
        FilingKind,
        Meta(
            description="`generative-ai`: the filing of a model; `registration`: of a service that "
            "calls a filed model by API, without a change of it; `algorithm`: of the algorithm."
        ),
    ] = "generative-ai"
    number: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=NUMBER_CHARACTERS_MAX,
            pattern=r"^[^\x00-\x1f\x7f]*\Z",
            description="The number, as the authority published it. Its form is not checked: the "
            "provinces write theirs differently.",
        ),
    ]
    models: Annotated[
        tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...],
        Meta(
            min_length=1,
            max_length=MODELS_MAX,
            description="Names of the models that it is for, as they are served; a tenant's own as "
            "`TENANT/NAME`. A virtual model's is shown beside those of the models behind it, and "
            "stands for none of them.",
        ),
    ]
    title: Annotated[
        _Text, Meta(description="The name under which the model was filed; apps show it.")
    ] = ""
    filer: Annotated[_Text, Meta(description="Who filed it.")] = ""
    province: Annotated[_Text, Meta(description="The province whose authority gave it.")] = ""
    launched_on: Annotated[
        Day, Meta(description="Day on which the service began, as `2026-01-31`.")
    ] = ""
    filed_on: Annotated[
        Day, Meta(description="Day from which it holds; without one it holds at once.")
    ] = ""
    changed_on: Annotated[
        Day, Meta(description="Day of the last change that the authority is to be told of.")
    ] = ""
    change_filed_on: Annotated[Day, Meta(description="Day on which it was told.")] = ""
    ended_on: Annotated[
        Day, Meta(description="Day from which the service, and so the number, is no more.")
    ] = ""
    end_filed_on: Annotated[Day, Meta(description="Day on which the end was filed.")] = ""
    modified: Annotated[
        bool,
        Meta(
            description="Whether the model was changed by training, as by a LoRA: then a "
            "registration is not enough, and the model is to be filed."
        ),
    ] = False
    source: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=500,
            description="Where the number is written: the address of the notice, or the paper.",
        ),
    ]
    link: Annotated[
        Annotated[str, Meta(max_length=500, pattern=r"^(https?://[^\s\x00-\x1f\x7f]+)?\Z")],
        Meta(description="Address that an app shows with the number, as algorithms need one."),
    ] = ""

    def in_force(self, today: datetime.date) -> bool:
        """Whether the number holds on a day."""
        day = today.isoformat()
        return self.filed_on <= day and (not self.ended_on or day < self.ended_on)


def numbers_in_force(filings: Iterable[Filing], today: datetime.date) -> dict[str, str]:
    """By model, the number under which it may serve the public today: a filing's before a
    registration's."""
    holding = [one for one in filings if one.kind in _SERVES and one.in_force(today)]
    found: dict[str, str] = {}
    for one in sorted(holding, key=lambda each: _SERVES.index(each.kind)):
        for model in one.models:
            found.setdefault(model, one.number)
    return found


def filed_part(numbers: Mapping[str, str], plan: Plan) -> Plan:
    """What of a plan is filed, in its order.

    Args:
        numbers: see `numbers_in_force`.

    Raises:
        ApiError: `model_not_filed`.
    """
    tiers = [one for one in (plan, *plan.others) if one.route.name in numbers]
    if not tiers:
        names = dict.fromkeys(one.route.name for one in (plan, *plan.others))
        said = ", ".join(f"`{name[:200]}`" for name in list(names)[:5])
        raise ApiError(
            "model_not_filed",
            f"No filing or registration number in force is registered for {said}, and calls like "
            "this one are served by filed models only.",
            param="model",
        )
    if len(tiers) == 1 + len(plan.others):
        return plan
    return Plan(tiers[0].route, tiers[0].candidates, tuple(tiers[1:]))


def number_used(numbers: Mapping[str, str], plan: Plan, upstream: str, model: str) -> str:
    """The number of the model that answered.

    Args:
        plan: its filed part.
        upstream: empty: the cache answered.
        model: the model's name at the upstream; empty: none answered.
    """
    if not model:
        return ""
    for tier in (plan, *plan.others):
        if not upstream or any(
            one.upstream.id == upstream and one.offer.model == model for one in tier.candidates
        ):
            return numbers.get(tier.route.name, "")
    return ""
