"""LangChain's own standard tests of a chat model, against a running gateway.

Run in a process of its own (`langchain.ini`): its pytest plugins do not suit ours. The gateway's
address and key come from the environment.
"""

from __future__ import annotations

import os
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests


class TestTokensChain(ChatModelIntegrationTests):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": os.environ["SUITE_MODEL"],
            "base_url": os.environ["SUITE_BASE_URL"],
            "api_key": os.environ["SUITE_KEY"],
            "stream_usage": True,
            "max_retries": 0,
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def has_tool_choice(self) -> bool:
        return True
