"""Tags of a call: one reading for limits, routing rules, cache entries and the record."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tokenschain.core.tags import (
    NO_TAGS,
    TAG_CHARACTERS_MAX,
    TAGS_BYTES_MAX,
    TAGS_MAX,
    parse,
    tags_of,
)


def test_the_tags_of_the_key_stay_and_the_header_adds_others() -> None:
    tags = tags_of(b"subject=math, vip ,user=ann, ,=x, user=bob", ("subject=none", "team=a"))
    assert tags.values == {"subject": "none", "team": "a", "vip": "vip", "user": "bob"}
    assert tags.words == ("subject=none", "team=a", "vip", "user=bob")


def test_rules_name_tags_with_or_without_a_value() -> None:
    tags = tags_of(b"contract, subject=math")
    assert tags.include(("contract", "subject=math")) and tags.include(())
    assert not tags.include(("subject",)) and not tags.include(("contract", "subject=art"))
    assert not NO_TAGS.include(("contract",))


@given(st.binary(max_size=400), st.lists(st.text(max_size=40), max_size=5))
def test_the_recorded_line_reads_back_as_the_same_tags(header: bytes, of_key: list[str]) -> None:
    tags = tags_of(header, [tag.replace(",", "") for tag in of_key])
    assert parse(tags.line) == tags.values


def test_what_is_too_long_or_too_much_is_left_out() -> None:
    assert len(parse(",".join(f"t{n}=1" for n in range(100)))) == TAGS_MAX
    long = ", ".join(f"{n}={'文' * 100}" for n in range(30))
    tags = tags_of(long.encode(), ("team=a",))
    assert len(tags.line.encode()) <= TAGS_BYTES_MAX and tags.values["team"] == "a"
    assert all(value in ("a", "文" * 100) for value in tags.values.values()), "no tag is cut"
    assert parse("a=" + "x" * TAG_CHARACTERS_MAX) == {}
