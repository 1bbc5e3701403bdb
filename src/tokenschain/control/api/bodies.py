"""What requests to the admin API have in their bodies, and what its answers have.

(No postponed annotations here: FastAPI reads them.)
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, model_validator

from tokenschain.core.formats.json_bounds import ADMIN_BOUNDS, JsonBounds
from tokenschain.infra.database.paging import Rows

Example = Mapping[str, JsonValue]
"""A body that makes sense, for the OpenAPI document."""


def _add_example(schema: dict[str, Any], model: type["RequestBody"]) -> None:
    schema["examples"] = [dict(model.example)]


_UNKNOWN_MAX = 20
"""Fields besides those there are, of which each is said; of more, that there are too many."""


class RequestBody(BaseModel):
    """A request's body; what it does not know it refuses."""

    model_config = ConfigDict(extra="forbid", json_schema_extra=_add_example)
    example: ClassVar[Example] = {}
    bounds: ClassVar[JsonBounds] = ADMIN_BOUNDS
    """What it may be made of, counted before it is decoded."""

    @model_validator(mode="before")
    @classmethod
    def _refuse_many(cls, given: object) -> object:
        if isinstance(given, dict) and len(given) > len(cls.model_fields) + _UNKNOWN_MAX:
            raise ValueError(f"{len(given)} fields, and there are {len(cls.model_fields)}")
        return given


class AnswerBody(BaseModel):
    """An answer's body: exactly the fields that are described."""

    model_config = ConfigDict(extra="forbid", from_attributes=True)


Item = TypeVar("Item")
Body_ = TypeVar("Body_", bound=BaseModel)


class ListAnswer(AnswerBody, Generic[Item]):
    """One page of a list."""

    data: list[Item]
    next_cursor: str | None
    """Where the next page begins; null on the last."""


class Items(AnswerBody, Generic[Item]):
    """A list that comes whole."""

    data: list[Item]


class Deleted(AnswerBody):
    """What was taken away."""

    id: str
    deleted: bool = True


def listed(kind: type[Body_], found: Rows, shown: Sequence[Mapping[str, object]]) -> Body_:
    """A page of a list.

    Args:
        kind: of `ListAnswer`.
        shown: all of the page's rows as the caller sees them; or none, where the list is of
            nothing that it may see. Where some are seen and some are not, see
            `paging.seen_page`, whose pages go on though one is empty.
    """
    hides = found.rows and not shown  # then a cursor would tell of what is not shown
    cursor = None if hides else found.next_cursor
    return kind.model_validate({"data": list(shown), "next_cursor": cursor})
