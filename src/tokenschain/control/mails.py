"""Mail outbox: messages to people wait sealed in the database until the mail server takes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from typing import Any, Literal, NamedTuple

import msgspec
from sqlalchemy import Connection, Engine, delete, func, insert, select, update

from tokenschain.core.log_events import Reporter
from tokenschain.infra.database.tables import mails
from tokenschain.infra.egress import MailRefused, MailServer, send_mail
from tokenschain.infra.security import secrets
from tokenschain.infra.security.suite import Place, Sealable, Sealer, Unsealable

SEND_MAX_S = 10.0
AT_ONCE_MAX = 10
"""Taken from the outbox at one look, the one that has waited longest first."""
TRIES_MAX = 8
RETRY_FIRST_S = 5
CLAIM_S = int(AT_ONCE_MAX * SEND_MAX_S)
"""How long whoever else looks leaves alone what somebody tries to send."""
WAITING_MAX = 10_000
"""Messages in the outbox: a mail server that is gone must not fill the database."""


State = Literal["waiting", "retrying", "failed"]
"""Of a message that the mail server has not taken: not tried, tried in vain, given up."""


class Mail(NamedTuple):
    """How e-mail leaves."""

    host: str | None
    port: int
    user: str | None
    password: Callable[[], str | None]
    sender: str
    tls: bool

    def send(self, address: str, subject: str, text: str) -> None:
        """Hand one message to the mail server; blocks.

        Raises:
            ValueError: none is set.
            OSError: it cannot be reached.
            MailRefused: it does not take the message.
        """
        if self.host is None:
            raise ValueError("no mail server is set")
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self.sender, address, subject
        message["Date"] = formatdate()
        domain = parseaddr(self.sender)[1].rpartition("@")[2]
        message["Message-ID"] = make_msgid(domain=domain or "localhost")
        message.set_content(text)
        server = MailServer(self.host, self.port, self.user, self.password(), tls=self.tls)
        send_mail(server, message, SEND_MAX_S)


class Letter(msgspec.Struct, frozen=True):
    """One message to one person."""

    address: str
    subject: str
    text: str


def put(
    connection: Connection, sealer: Sealer, letter: Letter, lasts_s: int, user_id: str | None = None
) -> None:
    """Have a message sent once this transaction is committed; it may hold a one-time link.

    Args:
        lasts_s: after which sending it is of no use any more.
        user_id: whom it invites; what becomes of it is kept, see `states`.
    """
    waiting = select(func.count()).select_from(mails).where(mails.c.tries < TRIES_MAX)
    if connection.execute(waiting).scalar_one() >= WAITING_MAX:
        return
    mail_id, now_s = secrets.new_id("mal"), int(time.time())
    sealed = sealer.seal(_place(mail_id), msgspec.json.encode(letter))
    connection.execute(
        insert(mails).values(
            id=mail_id,
            sealed=sealed,
            tries=0,
            next_try_s=now_s,
            expires_at_s=now_s + lasts_s,
            user_id=user_id,
        )
    )


def states(connection: Connection, user_ids: Collection[str]) -> dict[str, State]:
    """How far the mails are that invite users; of those whose mail was not taken yet."""
    rows = connection.execute(
        select(mails.c.user_id, mails.c.tries).where(mails.c.user_id.in_(user_ids))
    )
    return {user_id: _state(tries) for user_id, tries in rows}


def _state(tries: int) -> State:
    if tries >= TRIES_MAX:
        return "failed"
    return "retrying" if tries else "waiting"


def forget(connection: Connection, user_id: str) -> None:
    """Do not send what invites a user: it is withdrawn, used, or there is a newer one."""
    connection.execute(delete(mails).where(mails.c.user_id == user_id))


def _place(mail_id: str) -> Place:
    return Place(Sealable.MAIL, "", mail_id)


class Outbox:
    """Sends what waits; several controls may do so, and each message is one's at a time."""

    def __init__(self, engine: Engine, sealer: Sealer, mail: Mail, report: Reporter) -> None:
        """
        Args:
            report: told of what could not be sent in the end.
        """
        self._engine = engine
        self._sealer = sealer
        self._mail = mail
        self._report = report

    async def send_due(self, now_s: float) -> int:
        """Try what is due, one after the other; returns how many were taken."""
        due = await asyncio.to_thread(self._claim, int(now_s))
        taken = 0
        for row in due:
            why = await asyncio.to_thread(self._send, row)
            await asyncio.to_thread(self._settle, row, why, int(now_s))
            taken += why is None
        return taken

    def _claim(self, now_s: int) -> list[Any]:
        with self._engine.begin() as connection:
            connection.execute(delete(mails).where(mails.c.expires_at_s <= now_s))
            order = (mails.c.next_try_s, mails.c.id)
            waiting = select(mails).where(mails.c.next_try_s <= now_s).order_by(*order)
            found = []
            for row in connection.execute(waiting.limit(AT_ONCE_MAX)).all():
                mine = connection.execute(
                    update(mails)
                    .where(mails.c.id == row.id, mails.c.next_try_s == row.next_try_s)
                    .values(next_try_s=now_s + CLAIM_S)
                ).rowcount
                if mine:
                    found.append(row)
            return found

    def _send(self, row: Any) -> str | None:
        """Why it was not taken; None when it was."""
        try:
            letter = msgspec.json.decode(
                self._sealer.unseal(_place(row.id), row.sealed), type=Letter
            )
            self._mail.send(letter.address, letter.subject, letter.text)
        except (OSError, MailRefused, ValueError, secrets.SecretMissing, Unsealable) as error:
            return type(error).__name__  # its words may hold the address
        return None

    def _settle(self, row: Any, why: str | None, now_s: int) -> None:
        tries = row.tries + 1
        with self._engine.begin() as connection:
            if why is None or (tries >= TRIES_MAX and row.user_id is None):
                connection.execute(delete(mails).where(mails.c.id == row.id))
            else:
                next_try_s = now_s + RETRY_FIRST_S * 2 ** (tries - 1)
                if tries >= TRIES_MAX:
                    next_try_s = row.expires_at_s
                connection.execute(
                    update(mails)
                    .where(mails.c.id == row.id)
                    .values(tries=tries, next_try_s=next_try_s)
                )
        if why is not None and tries >= TRIES_MAX:
            self._report("mail_not_sent", why)
