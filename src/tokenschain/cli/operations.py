"""Operations of the admin API, as the commands know them: `data/admin_api.json`.

The file is made from control's OpenAPI document by docs/generate.py, so that commands need neither
control's code nor a running control to know what they can say.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

import msgspec

DOCUMENT = "admin_api.json"
Place = Literal["path", "query", "body", "header"]
Kind = Literal["text", "integer", "number", "boolean", "texts", "integers", "json"]


class Field(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request may say."""

    name: str
    place: Place
    kind: Kind = "text"
    required: bool = False
    choices: tuple[str, ...] = ()
    default: str | int | float | bool | None = None
    """What holds when it is left out, where the document says so."""

    @property
    def is_moment(self) -> bool:
        """Whether it is a point in time, in Unix seconds."""
        return self.name in ("from_s", "until_s") or self.name.endswith("_at_s")

    @property
    def is_duration(self) -> bool:
        """Whether it is a length of time, in seconds."""
        return self.name.endswith("_s") and not self.is_moment

    @property
    def option(self) -> str:
        """Its name on the command line: no unit, and one of several by its singular."""
        name = self.name.removesuffix("_s")
        if self.kind in ("texts", "integers"):
            name = name.removesuffix("s")
        return name.replace("_", "-")


class Operation(msgspec.Struct, frozen=True, omit_defaults=True):
    """One method of one path."""

    method: str
    path: str
    """Below `/api/v1`, as `/keys/{key_id}`."""
    summary: str
    more: str = ""
    """What its description says beyond the summary."""
    fields: tuple[Field, ...] = ()
    answers: Literal["object", "list", "pages", "stream", "nothing"] = "object"
    columns: tuple[str, ...] = ()
    """Fields of the object, or of each of the list."""
    open: bool = False
    """Nobody has to be known."""

    @property
    def name(self) -> str:
        return f"{self.method} {self.path}"


@cache
def operations() -> dict[str, Operation]:
    """All of them, by method and path."""
    data = (files("tokenschain") / "data" / DOCUMENT).read_bytes()
    found = msgspec.json.decode(data, type=tuple[Operation, ...])
    return {operation.name: operation for operation in found}
