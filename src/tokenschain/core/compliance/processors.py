"""Register of processors: who is handed data of calls, for what, by which contract.

Network Data Security Regulations, article 12: whoever hands personal information or important data
to others agrees on purpose, manner, scope and protection by contract, and watches over it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from tokenschain.core.snapshot.filings import Day

REVIEW_DAYS_MAX = 366
"""A year from one review to the next, as for an entry that nobody looks at any more."""
NAMES_MAX = 200
_Text = Annotated[str, Meta(max_length=500, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
_Needed = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
_Names = Annotated[
    tuple[Annotated[str, Meta(min_length=1, max_length=128)], ...], Meta(max_length=NAMES_MAX)
]


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who is handed data of calls."""

    vendor: Annotated[_Needed, Meta(description="Who it is: the company's name.")]
    purpose: Annotated[_Needed, Meta(description="What the data is handed over for.")]
    upstreams: Annotated[
        _Names,
        Meta(description="Upstreams that it runs; a tenant's own as `TENANT/NAME`."),
    ] = ()
    engines: Annotated[_Names, Meta(description="Moderation engines that it runs.")] = ()
    fields: Annotated[
        _Names, Meta(description="What it is handed, as `messages`, `pictures`, `user`.")
    ] = ()
    categories: Annotated[
        _Names, Meta(description="Categories of data, as data classes or in words.")
    ] = ()
    contract: Annotated[_Text, Meta(description="Number or place of the contract.")] = ""
    region: Annotated[_Text, Meta(description="Where it processes the data.")] = ""
    retention: Annotated[_Text, Meta(description="How long the vendor keeps the data.")] = ""
    reviewed_on: Annotated[
        Day, Meta(description="Day of the last review of the entry, as `2026-01-31`.")
    ] = ""


def missing(
    register: Iterable[Processor], upstreams: Iterable[str], engines: Iterable[str]
) -> list[str]:
    """Upstreams and engines that no entry is for; engines as `engine NAME`."""
    register = list(register)
    known = {name for one in register for name in one.upstreams}
    known_engines = {name for one in register for name in one.engines}
    return sorted(set(upstreams) - known) + [
        f"engine {name}" for name in sorted(set(engines) - known_engines)
    ]


def unreviewed(register: Mapping[str, Processor], today: datetime.date) -> list[str]:
    """Entries that nobody reviewed within `REVIEW_DAYS_MAX`; a day to come is no review."""
    least, most = (today - datetime.timedelta(days=REVIEW_DAYS_MAX)).isoformat(), today.isoformat()
    return sorted(name for name, one in register.items() if not least <= one.reviewed_on <= most)


def without_contract(register: Mapping[str, Processor]) -> list[str]:
    """Entries that name no contract."""
    return sorted(name for name, one in register.items() if not one.contract)
