"""Keys of content: one below the other, made once, wrapped anew with the master key, destroyed."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, select, update

from tokenschain.control import resealing
from tokenschain.control.content import key_hierarchy
from tokenschain.control.content.key_hierarchy import ContentKeys, KeyDestroyed
from tokenschain.infra.database.content_tables import content_keys, tenant_keys
from tokenschain.infra.security.suite import (
    GM,
    INTERNATIONAL,
    Place,
    Sealable,
    Sealer,
    Suite,
    Unsealable,
)

PLACE = Place(Sealable.CONTENT, "acme", "call_1")


def master(*secrets: str, suite: Suite = INTERNATIONAL) -> Sealer:
    return Sealer(suite, lambda: secrets, lambda suite, secret: suite.digest(secret.encode()))


def test_keys_are_made_once_and_open_what_they_sealed(engine: Engine, suite: Suite) -> None:
    made = ContentKeys(engine, master("m", suite=suite), suite)
    with engine.begin() as db:
        day, again = made.key(db, "acme", 7), made.key(db, "acme", 7)
        ada = made.subject(db, "acme", "ada")
        hers = made.key(db, "acme", 7, ada)
        assert day.id == again.id != hers.id and len(ada) == 32
        assert made.key(db, "acme", 8, ada).id != hers.id != made.key(db, "other", 7).id
        sealed = hers.sealer.seal(PLACE, b"said")
        assert sealed[:1] == suite.sealed_version
    # Another control, with nothing in memory.
    other = ContentKeys(engine, master("m", suite=suite), suite)
    with engine.begin() as db:
        assert other.sealer(db, hers.id).unseal(PLACE, sealed) == b"said"
        with pytest.raises(Unsealable):
            other.sealer(db, day.id).unseal(PLACE, sealed)
        assert ada in other.subjects(db, "acme", "ada")
        assert ada not in other.subjects(db, "acme", "bob")
        assert other.subjects(db, "nobody", "ada") == []


def test_an_end_user_is_found_after_the_suite_has_changed(engine: Engine) -> None:
    before = ContentKeys(engine, master("m"), INTERNATIONAL)
    after = ContentKeys(engine, master("m", suite=GM), GM)
    with engine.begin() as db:
        ada = before.subject(db, "acme", "ada")
        key = before.key(db, "acme", 1, ada)
        sealed = key.sealer.seal(PLACE, b"said")
        assert ada in after.subjects(db, "acme", "ada")[1:]
        assert after.sealer(db, key.id).unseal(PLACE, sealed) == b"said"
        assert after.key(db, "acme", 1, ada).sealer.unseal(PLACE, sealed) == b"said"


def test_a_new_master_key_wraps_tenant_keys_only(engine: Engine, suite: Suite) -> None:
    with engine.begin() as db:
        key = ContentKeys(engine, master("old", suite=suite), suite).key(db, "acme", 7)
        sealed = key.sealer.seal(PLACE, b"said")
        wrapped = db.execute(select(content_keys.c.id, content_keys.c.wrapped)).all()
    assert resealing.reseal(engine, master("new", "old", suite=suite)).sealed == 1
    with engine.begin() as db:
        assert db.execute(select(content_keys.c.id, content_keys.c.wrapped)).all() == wrapped
        opened = ContentKeys(engine, master("new", suite=suite), suite).sealer(db, key.id)
        assert opened.unseal(PLACE, sealed) == b"said"
        with pytest.raises(Unsealable):
            ContentKeys(engine, master("old", suite=suite), suite).sealer(db, key.id)


@pytest.mark.parametrize("which", ["subject", "day", "tenant"])
def test_what_is_sealed_below_a_destroyed_key_opens_no_more(engine: Engine, which: str) -> None:
    made = ContentKeys(engine, master("m"), INTERNATIONAL)
    with engine.begin() as db:
        ada = made.subject(db, "acme", "ada")
        hers, day = made.key(db, "acme", 7, ada), made.key(db, "acme", 7)
        tenant = db.execute(select(tenant_keys.c.id)).scalar_one()
        named = {"subject": hers.id, "day": day.id, "tenant": tenant}[which]
        below = {"subject": [], "day": [hers.id], "tenant": [hers.id, day.id]}[which]
        assert key_hierarchy.destroy(db, [named, "ckey_unknown"], 5) == sorted([named, *below])
        assert key_hierarchy.destroy(db, [named], 6) == [], "it is gone already"
        # Also for the control that had it in memory.
        for one in (made, ContentKeys(engine, master("m"), INTERNATIONAL)):
            with pytest.raises(KeyDestroyed):
                one.sealer(db, hers.id)
        if which == "subject":
            assert made.sealer(db, day.id)
        assert made.key(db, "acme", 7, ada).id != hers.id, "what comes now has a key of its own"


def test_a_key_that_was_moved_to_another_tenant_opens_nothing(engine: Engine, suite: Suite) -> None:
    made = ContentKeys(engine, master("m", suite=suite), suite)
    with engine.begin() as db:
        key = made.key(db, "acme", 7)
        db.execute(update(content_keys).where(content_keys.c.id == key.id).values(tenant="other"))
        with pytest.raises(Unsealable):
            ContentKeys(engine, master("m", suite=suite), suite).sealer(db, key.id)
