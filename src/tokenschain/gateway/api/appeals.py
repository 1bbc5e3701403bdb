"""Appeals API: a caller objects to a verdict of moderation, and reads what people decided.

An appeal goes the way of call records, through the journal, so that it is taken while control is
away; whether there is such a call is control's to say, and so is the decision.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from tokenschain.core.errors import ApiError
from tokenschain.core.formats.json_body import read_body, value_of
from tokenschain.core.formats.request_checks import missing
from tokenschain.core.moderation import case_record
from tokenschain.core.moderation.case_record import (
    APPEAL_BYTES_MAX,
    APPEAL_CHARACTERS_MAX,
    CaseRecord,
    appeal_id_of,
)
from tokenschain.core.tenancy import KeyGrant

PER_MINUTE = 30
"""Appeals of one key."""
FIELDS: dict[str, Any] = {"call_id": str, "reason": str}
REQUIRED = ("call_id", "reason")
_CALL_ID = re.compile(r"\w{1,56}", re.ASCII)
_text = msgspec.json.Decoder(str).decode
Seal = Callable[[str, str, bytes], bytes]
"""Seals a reason for control: (tenant, appeal, text) -> sealed."""
Ask = Callable[[str, str, str], Awaitable[bytes | None]]
"""Asks control for an appeal: (tenant, project, appeal) -> JSON, or None where there is none."""


class Appeals:
    """Takes appeals, and reads them back."""

    def __init__(
        self, append: Callable[[bytes], None], full: type[Exception], seal: Seal, ask: Ask
    ) -> None:
        """
        Args:
            append: to the journal.
            full: what that raises where it has no room.
        """
        self._append, self._full = append, full
        self._seal, self._ask = seal, ask

    def submit(self, caller: KeyGrant, body: bytes, now_ms: int) -> bytes:
        """Take an appeal; of a second one about the same call, nothing comes.

        Raises:
            ApiError: it is none, or the journal has no room.
        """
        fields = read_body(body).fields
        values = []
        for name in REQUIRED:
            if name not in fields:
                raise missing(name)
            values.append(value_of(name, fields[name], _text))
        call_id, reason = values
        if not _CALL_ID.fullmatch(call_id):
            why = "`call_id` is the `x-request-id` of the answer that the appeal is about."
            raise ApiError("invalid_value", why, param="call_id")
        if not reason.strip():
            raise ApiError("invalid_value", "`reason` says why.", param="reason")
        if len(reason) > APPEAL_CHARACTERS_MAX or len(reason.encode()) > APPEAL_BYTES_MAX:
            raise ApiError(
                "string_above_max_length",
                f"`reason` has {APPEAL_CHARACTERS_MAX} characters at most, and {APPEAL_BYTES_MAX} "
                "bytes in UTF-8.",
                param="reason",
            )
        name = appeal_id_of(call_id)
        sealed = self._seal(caller.tenant, name, case_record.encode_appeal(reason))
        record = CaseRecord(
            name, now_ms, caller.tenant, caller.project, caller.key_id, "", "", "", "", sealed,
            appeal_of=call_id,
        )  # fmt: skip
        try:
            self._append(case_record.encode(record))
        except self._full as error:
            raise ApiError("journal_full", f"The appeal was not taken: {error}.") from error
        return msgspec.json.encode(
            {"id": name, "object": "moderation.appeal", "call_id": call_id, "status": "received"}
        )

    async def read(self, caller: KeyGrant, appeal_id: str) -> bytes:
        """An appeal and what was decided.

        Raises:
            ApiError: `not_found`, or `database_unavailable` while control is away.
        """
        known = re.fullmatch(r"appeal_\w{1,56}", appeal_id, re.ASCII)
        found = await self._ask(caller.tenant, caller.project, appeal_id) if known else None
        if found is None:
            raise ApiError(
                "not_found",
                f"There is no appeal `{appeal_id[:80]}`: it is still on its way, or is about no "
                "call of your project that moderation did something to.",
            )
        return found
