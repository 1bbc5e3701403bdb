"""What a model can do, and what a call needs of it."""

from __future__ import annotations

from tokenschain.core.formats.openai_chat import ParsedRequest
from tokenschain.core.routing import virtual_models
from tokenschain.core.routing.selection import Endpoint, Need
from tokenschain.core.snapshot import Candidate


def able(endpoints: list[Endpoint], parsed: ParsedRequest, need: Need) -> list[Endpoint]:
    """Those whose model can do what the call needs.

    A picture goes to none that cannot look at it. All else that the catalog says a model cannot
    do is a preference: where none can, all are left.
    """
    needs = virtual_models.needs_of(parsed)
    if "vision" in needs:
        endpoints = [e for e in endpoints if not is_blind(e.candidate)]
    found = []
    for endpoint in endpoints:
        offer = endpoint.candidate.offer
        window = offer.context_window
        if window is not None and window < need.prompt_tokens:
            continue
        if needs and offer.abilities is not None and not needs.issubset(offer.abilities):
            continue
        found.append(endpoint)
    return found or endpoints


def is_blind(candidate: Candidate) -> bool:
    """Whether it is known that the model takes no pictures."""
    abilities = candidate.offer.abilities
    return abilities is not None and "vision" not in abilities
