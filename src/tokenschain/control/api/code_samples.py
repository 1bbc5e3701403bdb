"""Calls to copy, for the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import JsonValue

from tokenschain.infra.config import ADMIN_TOKEN_VARIABLE


def parts_of(dependant: Dependant) -> Iterator[Dependant]:
    """What a route depends on, itself included."""
    yield dependant
    for part in dependant.dependencies:
        yield from parts_of(part)


def sample_of(
    route: APIRoute, bodies: Sequence[Mapping[str, JsonValue]], *, signed_in: bool
) -> str:
    """A call of a route: the path's parts in capitals, required queries and a body that makes
    sense."""
    path = route.path_format
    for part in parts_of(route.dependant):
        for field in part.path_params:
            path = path.replace(f"{{{field.alias}}}", field.alias.upper())
    queries = [
        f"{field.alias}={field.field_info.examples[0]}"
        for field in route.dependant.query_params
        if field.field_info.examples
    ]
    url = f"http://127.0.0.1:8001{path}" + (f"?{'&'.join(queries)}" if queries else "")
    lines = [f"curl -X {min(route.methods or ())} '{url}'"]
    if signed_in:
        lines.append(f'-H "authorization: Bearer ${ADMIN_TOKEN_VARIABLE}"')
    for body in bodies:
        text = json.dumps(dict(body), ensure_ascii=False)
        lines += ["-H 'content-type: application/json'", f"-d '{text}'"]
    return " \\\n  ".join(lines)
