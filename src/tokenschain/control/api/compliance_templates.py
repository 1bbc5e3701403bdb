"""Admin API: documents that the law asks for, filled with what the platform knows.

(No postponed annotations here: FastAPI reads them.)
"""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Depends

from tokenschain.control.api.bodies import AnswerBody
from tokenschain.control.api.context import AdminRoute, Permission, RequestContext
from tokenschain.control.api.filings import registered
from tokenschain.control.compliance import template_facts
from tokenschain.control.identity.ownership import Extent
from tokenschain.core.compliance import templates
from tokenschain.core.compliance.templates import TEMPLATES
from tokenschain.core.errors import ApiError
from tokenschain.core.tenancy import PLATFORM

router = APIRouter(prefix="/api/v1/compliance", route_class=AdminRoute, tags=["compliance"])
Reading = Annotated[RequestContext, Depends(Permission("compliance:read", Extent.PLATFORM))]


class FilledTemplateAnswer(AnswerBody):
    """A document to be completed."""

    name: str
    language: Literal["zh", "en"]
    markdown: str
    missing: list[str]
    """What a person has to add."""


@router.get("/templates/{template}")
def fill_template(
    asked: Reading, template: str, language: Literal["zh", "en"] = "zh"
) -> FilledTemplateAnswer:
    """Fill a template with what the platform knows: `algorithm-assessment`, `service-agreement`,
    `processors` or `user-notice`; each gap is marked, and nothing is made up."""
    asked.need(PLATFORM)
    found = next((one for one in TEMPLATES if one == template), None)
    if found is None:
        raise ApiError("not_found", f"There are templates: {', '.join(TEMPLATES)}.",
                       param="template")  # fmt: skip
    context = asked.context
    facts = template_facts.read(
        asked.db, context.settings, context.publisher.snapshot, registered(asked), time.time()
    )
    filled = templates.fill(found, facts, language)
    return FilledTemplateAnswer(
        name=found, language=language, markdown=filled.markdown, missing=filled.missing
    )
