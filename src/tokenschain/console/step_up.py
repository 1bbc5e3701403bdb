"""Step-up of the console: what the API wants shown again is asked for, then the form goes on."""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from tokenschain.console.admin_api import ApiRefusal, StepUpNeeded
from tokenschain.console.rendering import Renderer
from tokenschain.console.visit import Visit

PROOF_MAX_S = 20.0
"""Passwords are compared in turn with those of others who sign in."""
PASSWORD, CODE = "step_up_password", "step_up_code"


def second_factor(typed: str) -> dict[str, str]:
    """What a field for a code holds, as the API takes it: a code, or a recovery code."""
    code = typed.replace(" ", "")
    if not code:
        return {}
    is_code = code.isdecimal() and len(code) == 6
    return {"code" if is_code else "recovery_code": code}


async def prove(visit: Visit) -> None:
    """Show password and second factor again, where the form that was sent has them.

    Raises:
        StepUpNeeded: they are wrong.
    """
    given = dict(visit.form)
    password, code = given.pop(PASSWORD, ""), given.pop(CODE, "")
    if not password:
        return
    visit.form = given
    proof = {"password": password, **second_factor(code)}
    try:
        await visit.api.with_wait(PROOF_MAX_S).send("POST", "/me/step-up", msgspec.Raw, proof)
    except ApiRefusal as refusal:
        raise StepUpNeeded(refusal) from None


def ask(visit: Visit, renderer: Renderer, needed: StepUpNeeded) -> Response:
    """A form for what has to be shown again; it holds what was sent, which is sent again."""
    status = needed.wrong.status if needed.wrong is not None else 403
    return renderer.page(
        "step_up.html", visit, status, wrong=needed.wrong, sent=visit.form,
        fields=(PASSWORD, CODE),
    )  # fmt: skip
