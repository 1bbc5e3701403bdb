"""What is offered to somebody who asked for a model that does not exist."""

from tokenschain.core.routing.near_names import near_names

KNOWN = ("deepseek-flash", "deepseek-v4-pro", "qwen-plus", "Qwen/Qwen3-8B", "kimi-k2.6")


def test_the_likest_come_first_whatever_their_case_or_path() -> None:
    assert near_names("deepseek-v4-prp", KNOWN)[0] == "deepseek-v4-pro"
    assert near_names("QWEN-PLUS", KNOWN)[0] == "qwen-plus"
    assert near_names("moonshot/kimi-k2.5", KNOWN) == ("kimi-k2.6",)
    assert near_names("qwen3-8b", KNOWN)[0] == "Qwen/Qwen3-8B"


def test_what_resembles_nothing_has_no_near_name() -> None:
    assert near_names("whisper-1", KNOWN) == ()
    assert near_names("", KNOWN) == near_names("x" * 10_000, KNOWN) == ()
