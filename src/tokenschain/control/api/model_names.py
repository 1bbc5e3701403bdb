"""Names of models that a key or a role's binding is for: bounded, since each gateway keeps them.

(No postponed annotations here: FastAPI reads them.)
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from tokenschain.control.identity import shares

ModelName = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]+$")]


def _few_characters(names: list[str]) -> list[str]:
    if not shares.are_few(names):
        raise ValueError(f"the names have more than {shares.NAMES_CHARACTERS_MAX} characters")
    return names


ModelNames = Annotated[list[ModelName], Field(max_length=1_000), AfterValidator(_few_characters)]
