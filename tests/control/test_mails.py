"""Mail outbox: each message is sent once, tried again, and given up in the end."""

from __future__ import annotations

import asyncio
import time
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tokenschain.control import mails
from tokenschain.control.mails import Letter, Mail, Outbox
from tokenschain.infra.database import engine as db
from tokenschain.infra.egress import MailRefused
from tokenschain.infra.security import secrets
from tokenschain.infra.security.secret_files import SecretFile
from tokenschain.infra.security.suite import INTERNATIONAL, Sealer

LETTER = Letter("ann@example.com", "TokensChain: 邀请", "https://ai.example/link?code=tci-1\n")
HOUR_S = 3_600


class Post:
    """A database, an outbox over it, and what its mail server took."""

    def __init__(self, engine: Engine, sealer: Sealer) -> None:
        self.engine, self.sealer = engine, sealer
        self.taken: list[EmailMessage] = []
        self.refusals: list[Exception] = []
        self.said: list[str] = []
        mail = Mail("mail.example", 25, None, lambda: None, "tc@example.com", tls=False)
        self.outbox = Outbox(engine, sealer, mail, lambda event, why="", **_: self.said.append(
            f"{event} {why}"))  # fmt: skip

    def put(
        self, letter: Letter = LETTER, lasts_s: int = HOUR_S, user_id: str | None = None
    ) -> None:
        with self.engine.begin() as connection:
            mails.put(connection, self.sealer, letter, lasts_s, user_id)

    def states(self) -> dict[str, mails.State]:
        with self.engine.begin() as connection:
            return mails.states(connection, ("usr_a", "usr_b"))

    def send(self, after_s: float = 0.0) -> int:
        return asyncio.run(self.outbox.send_due(time.time() + after_s))

    def waiting(self) -> int:
        with self.engine.connect() as connection:
            return len(connection.execute(mails.mails.select()).all())


@pytest.fixture
def post(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    engine = db.connect(f"sqlite:///{tmp_path / 'tokenschain.db'}")
    db.migrate(engine)
    made = Post(engine, secrets.master_sealer(SecretFile(tmp_path / "master"), INTERNATIONAL))

    def send(_server: Any, message: EmailMessage, _wait_s: float) -> None:
        if made.refusals:
            raise made.refusals.pop(0)
        made.taken.append(message)

    monkeypatch.setattr(mails, "send_mail", send)
    yield made
    engine.dispose()


def test_a_message_arrives_once_as_it_was_written(post: Post) -> None:
    post.put()
    assert post.send() == 1 and post.send(10 * HOUR_S) == 0
    (message,) = post.taken
    assert (message["To"], message["Subject"]) == (LETTER.address, LETTER.subject)
    assert message.get_content() == LETTER.text and post.waiting() == 0
    assert message["Message-ID"].startswith("<") and message["Date"]


def test_what_is_not_taken_is_tried_again_and_given_up_with_a_word(post: Post) -> None:
    post.put(lasts_s=100 * HOUR_S)
    post.refusals = [ConnectionRefusedError("mail.example")] * 2
    assert post.send() == 0 and post.send(1) == 0, "it is not due again yet"
    assert len(post.refusals) == 1
    assert post.send(60) == 0 and post.send(600) == 1
    post.put(lasts_s=100 * HOUR_S)
    post.refusals = [MailRefused(f"{LETTER.address}: no such box")] * mails.TRIES_MAX
    for n in range(mails.TRIES_MAX):
        assert post.send(HOUR_S * (n + 1)) == 0
    assert post.waiting() == 0 and post.said == ["mail_not_sent SMTPException"]
    assert LETTER.address not in str(post.said)


def test_what_becomes_of_an_invitation_is_known_until_it_was_taken_or_is_over(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mails, "WAITING_MAX", 2)
    post.put(lasts_s=100 * HOUR_S, user_id="usr_a")
    assert post.states() == {"usr_a": "waiting"}
    post.refusals = [MailRefused("no such box")] * mails.TRIES_MAX
    for n in range(mails.TRIES_MAX):
        assert post.send(HOUR_S * (n + 1)) == 0
        assert post.states() == {"usr_a": "retrying" if n < mails.TRIES_MAX - 1 else "failed"}
    assert post.said == ["mail_not_sent SMTPException"]
    post.put(user_id="usr_b")
    post.put()
    assert post.send() == 2, "what was given up takes nobody's place"
    assert post.states() == {"usr_a": "failed"} and post.send(99 * HOUR_S) == 0
    assert post.said == ["mail_not_sent SMTPException"], "it is told once, and not tried again"
    post.send(101 * HOUR_S)
    assert post.states() == {}
    post.put(user_id="usr_b")
    with post.engine.begin() as connection:
        mails.forget(connection, "usr_b")
    assert post.send() == 0


def test_a_message_of_no_use_any_more_is_not_sent(post: Post) -> None:
    post.put(lasts_s=60)
    assert post.send(61) == 0 and post.waiting() == 0 and not post.taken


def test_two_controls_send_it_once(post: Post) -> None:
    post.put()
    claimed = [post.outbox._claim(int(time.time())) for _ in range(2)]
    assert [len(rows) for rows in claimed] == [1, 0]


def test_an_odd_message_stops_no_other(post: Post) -> None:
    post.put(Letter("a@b.example\nBcc: everyone@c.example", "s", "t"))
    post.put()
    assert post.send() == 1 and [m["To"] for m in post.taken] == [LETTER.address]


def test_a_server_that_is_gone_does_not_fill_the_database(
    post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mails, "WAITING_MAX", 3)
    for _ in range(5):
        post.put()
    assert post.waiting() == 3
