"""Which events are good news."""

from __future__ import annotations

from tokenschain.core.log_events import is_good_news, silent


def test_what_is_back_is_good_news_and_what_is_lost_is_not() -> None:
    assert is_good_news("control_back") and is_good_news("upstream_key_ready")
    assert not is_good_news("breaker_open") and not is_good_news("breaker_open_elsewhere")
    silent("breaker_open", "nobody is told", upstream="x")
