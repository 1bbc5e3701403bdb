"""What calls met tells of an upstream that nobody probes."""

from __future__ import annotations

from tokenschain.control.upstream_health import RECENT_S, UpstreamHealth
from tokenschain.core.call_record import AttemptRecord, CallRecord

NOW_S = 1_790_000_000.0


def health(*outcomes: str, age_s: float = 1.0) -> str:
    made = UpstreamHealth()
    for outcome in outcomes:
        record = CallRecord("e", int((NOW_S - age_s) * 1e3), "chat/completions")
        record.attempts = [AttemptRecord("u", 0.0, outcome=outcome), AttemptRecord("v", 0.0)]
        made.note([record])
    assert made.of("other", NOW_S) == made.of("v", NOW_S) == ""
    return made.of("u", NOW_S)


def test_an_upstream_whose_last_calls_all_failed_is_down() -> None:
    """Also where another upstream answered the callers, so that they noticed nothing."""
    gone = "upstream_unreachable"
    assert health("ok", gone, gone, gone) == f"down: the last 3 calls failed ({gone})"
    assert health(gone, gone, gone, "ok") == "up" == health("ok", gone)
    assert health(*["upstream_rejected_credentials"] * 30).startswith("down: the last 20 calls")


def test_what_is_not_the_upstreams_doing_tells_nothing() -> None:
    assert health() == health("lost_race", "caller_gone", "open", "translation_failed") == ""
    assert health("upstream_failed", "upstream_failed") == ""
    assert health(*["upstream_failed"] * 5, age_s=RECENT_S + 1) == ""


def test_waits_for_the_first_byte_are_told_from_enough_answers() -> None:
    made = UpstreamHealth()
    for n in range(1, 121):
        record = CallRecord("e", int((NOW_S - 1) * 1e3), "chat/completions")
        record.attempts = [
            AttemptRecord("u", 10.0, 10.0 + n, outcome="ok"),
            AttemptRecord("bad", 0.0, 5.0, outcome="upstream_failed"),
            *([AttemptRecord("few", 0.0, 7.0, outcome="ok")] if n < 3 else ()),
        ]
        made.note([record])
    assert made.first_byte_waits("u", NOW_S) == (70.0, 115.0), "of the last 100: 21 to 120 ms"
    assert made.first_byte_waits("few", NOW_S) == (7.0, None)
    assert made.first_byte_waits("bad", NOW_S) == (None, None)
    assert made.first_byte_waits("u", NOW_S + RECENT_S) == (None, None)
