"""The gateway in this process, for cases that need no server of their own."""

from tests.translation.conftest import lab, shared_lab

__all__ = ["lab", "shared_lab"]
