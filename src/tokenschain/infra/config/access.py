"""Settings of sessions and passwords."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

IDLE_MIN_S = 120
"""Shorter ones would end between two notes that a session is used."""


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How long people stay signed in, and which passwords they may have."""

    session_max_s: Annotated[
        int,
        Meta(ge=300, le=43_200, description="Seconds after which a session ends in any case."),
    ] = 43_200
    session_idle_max_s: Annotated[
        int,
        Meta(
            ge=0,
            le=43_200,
            description="Seconds, 120 at least, after which an unused session ends; 0: it does "
            "not. A page that is open and shows what happens now uses it.",
        ),
    ] = 0
    sessions_max: Annotated[
        int,
        Meta(
            ge=0,
            le=100,
            description="Sessions that a person has at one time; one more ends the oldest. 0: as "
            "many as they like.",
        ),
    ] = 0
    password_characters_min: Annotated[
        int, Meta(ge=8, le=64, description="Characters of a new password, at least.")
    ] = 12
    passwords_remembered: Annotated[
        int,
        Meta(
            ge=0,
            le=24,
            description="Former passwords that are not chosen again; those from before it is "
            "set are not known.",
        ),
    ] = 0
    password_days_max: Annotated[
        int,
        Meta(
            ge=0,
            le=3_650,
            description="Days after which a password has to be changed, by `POST /me/password`, "
            "before anything else; 0: it does not. Those from before it was noted count from then.",
        ),
    ] = 0

    def __post_init__(self) -> None:
        if 0 < self.session_idle_max_s < IDLE_MIN_S:
            raise ValueError(f"`session_idle_max_s` is 0, or {IDLE_MIN_S} at least")
