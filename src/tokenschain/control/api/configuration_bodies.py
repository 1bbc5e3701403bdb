"""Bodies by which resources of configuration are set."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field, JsonValue

from tokenschain.control.api.bodies import Example, RequestBody
from tokenschain.control.configuration import history
from tokenschain.control.configuration.resources import Kind


class NewSpec(RequestBody):
    """What a resource is to be."""

    spec: dict[str, JsonValue]
    reason: Annotated[str, Field(max_length=history.REASON_CHARACTERS_MAX)] = ""


class UpstreamBody(NewSpec):
    """What an upstream is to be."""

    example: ClassVar[Example] = {"spec": {"provider": "alibaba", "credential": "stored:bailian-1"}}


class CredentialBody(NewSpec):
    """What a credential is to be."""

    example: ClassVar[Example] = {"spec": {"value": "the-vendors-key"}}


class ModelBody(NewSpec):
    """What a model is to be."""

    example: ClassVar[Example] = {
        "spec": {"offers": [{"upstream": "bailian", "model": "qwen3-max"}]}
    }


class VirtualModelBody(NewSpec):
    """What a virtual model is to be."""

    example: ClassVar[Example] = {"spec": {"entries": [{"model": "qwen3-max"}]}}


class RoutingBody(NewSpec):
    """What routing rules are to be."""

    example: ClassVar[Example] = {"spec": {"policy": "cost-first"}}


class CacheRulesBody(NewSpec):
    """What cache rules are to be."""

    example: ClassVar[Example] = {"spec": {"mode": "exact"}}


class ModerationPolicyBody(NewSpec):
    """What a moderation policy is to be."""

    example: ClassVar[Example] = {"spec": {"state": "shadow", "personal_data": {"mobile": "mask"}}}


class FilingBody(NewSpec):
    """What a filing is to be."""

    example: ClassVar[Example] = {
        "spec": {"number": "Example-001", "models": ["qwen3-max"], "source": "https://a.example"}
    }


class DataClassBody(NewSpec):
    """What a data class is to be."""

    example: ClassVar[Example] = {"spec": {"sovereignty": "domestic-only", "cache": "exact"}}


class ProcessorBody(NewSpec):
    """What the register says of a processor."""

    example: ClassVar[Example] = {
        "spec": {"vendor": "Example Cloud", "purpose": "answers", "upstreams": ["bailian"],
                 "contract": "C-2026-7", "reviewed_on": "2026-11-01"},
    }  # fmt: skip


class LabelRulesBody(NewSpec):
    """What label rules are to be."""

    example: ClassVar[Example] = {"spec": {"explicit": "end", "implicit": "on"}}


class ReceiptRulesBody(NewSpec):
    """What receipt rules are to be."""

    example: ClassVar[Example] = {"spec": {"send": "always"}}


BODIES: dict[Kind, type[NewSpec]] = {
    Kind.UPSTREAM: UpstreamBody,
    Kind.CREDENTIAL: CredentialBody,
    Kind.MODEL: ModelBody,
    Kind.VIRTUAL_MODEL: VirtualModelBody,
    Kind.ROUTING: RoutingBody,
    Kind.CACHE_RULES: CacheRulesBody,
    Kind.MODERATION_POLICY: ModerationPolicyBody,
    Kind.FILING: FilingBody,
    Kind.DATA_CLASS: DataClassBody,
    Kind.PROCESSOR: ProcessorBody,
    Kind.LABEL_RULES: LabelRulesBody,
    Kind.RECEIPT_RULES: ReceiptRulesBody,
}
