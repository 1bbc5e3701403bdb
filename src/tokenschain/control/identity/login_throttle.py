"""Login throttling: wrong guesses delay the next try of one address at one account.

A delay of the account alone would let anybody shut its owner out. Whatever an address guesses at
is counted for the address as well.
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, Connection, and_, case, delete, or_, select

from tokenschain.core.errors import ApiError
from tokenschain.infra.database import engine as db
from tokenschain.infra.database.tables import login_failures
from tokenschain.wire.budgets import network_of

FREE_TRIES = 5
"""Of an address at an account in a row, before there is a delay."""
DELAYS_S = (120, 240, 480)
"""After as many wrong tries and the next ones; then `DELAY_MAX_S`."""
DELAY_MAX_S = 15 * 60
FORGET_S = 3_600
"""After the last try."""
ADDRESS_TRIES_MAX = 200
"""Wrong ones of an address at whatever accounts, until it has been silent for `FORGET_S`."""
ANYTHING = ""
"""The account that all wrong tries of an address are counted under."""
ANYWHERE = ""
"""The address that wrong codes are counted under. Only who has the password can try a code, so
nobody else is shut out by a delay of the account."""
_ACCOUNT_CHARACTERS_MAX = 300
_ADDRESS_CHARACTERS_MAX = 64


def place_of(address: str) -> str:
    """What tries from an address are counted under."""
    return network_of(address)[:_ADDRESS_CHARACTERS_MAX] or "unknown"


def account_of(email: str, tenant: str | None) -> str:
    """What tries to sign in are counted under: as was asked, whoever there is, so that counting
    tells nothing, and nobody's success in another tenant clears it."""
    named = email if tenant is None else f"{email}/{tenant}"
    return named[:_ACCOUNT_CHARACTERS_MAX]


def begin(connection: Connection, account: str, place: str, now_s: int) -> None:
    """Count a try before it is known whether it is right, so that many at once count as many.

    Accounts that do not exist are treated the same, so that the answer does not tell which do.

    Args:
        account: of `account_of`, or the id of a user who is signed in.
        place: see `place_of`.

    Raises:
        ApiError: `account_locked`: who tries has to wait; nothing was counted.
    """
    row = connection.execute(
        select(login_failures).where(
            _at(ANYTHING, place),
            login_failures.c.failed >= ADDRESS_TRIES_MAX,
            login_failures.c.forget_at_s > now_s,
        )
    ).first()
    if row is not None:
        raise _later(row.forget_at_s - now_s)
    if _count(connection, account, place, now_s) is None:
        row = connection.execute(select(login_failures).where(_at(account, place))).one()
        raise _later(row.next_try_s - now_s)


def may_try_code(connection: Connection, user_id: str, now_s: int) -> bool:
    """Count a try at a user's second factor; false when it is too early for another."""
    return _count(connection, user_id, ANYWHERE, now_s) is not None


def fail(connection: Connection, place: str, now_s: int) -> int | None:
    """Count a wrong try for its address; returns how many there were if that is worth a line.

    The first, second, fourth, eighth ... is, so that nobody fills the audit log.
    """
    count = _count(connection, ANYTHING, place, now_s, delays=False)
    assert count is not None, "an address waits for nothing here"
    return None if count & (count - 1) else count


def succeed(connection: Connection, account: str, place: str, user_id: str) -> None:
    """Forget an account's wrong tries from an address, and wrong codes: all was right."""
    connection.execute(
        delete(login_failures).where(or_(_at(account, place), _at(user_id, ANYWHERE)))
    )


def sweep(connection: Connection, now_s: int) -> None:
    """Forget what is long past."""
    connection.execute(delete(login_failures).where(login_failures.c.forget_at_s <= now_s))


def _later(wait_s: int) -> ApiError:
    return ApiError(
        "account_locked",
        "Too many wrong guesses; try again later.",
        retry_after_s=float(max(1, wait_s)),
    )


def _at(account: str, place: str) -> ColumnElement[bool]:
    return and_(login_failures.c.account == account, login_failures.c.address == place)


def _count(
    connection: Connection, account: str, place: str, now_s: int, *, delays: bool = True
) -> int | None:
    """Add one, in one statement; None when it is too early for another try."""
    table = login_failures.c
    failed = case((table.forget_at_s <= now_s, 1), else_=table.failed + 1)
    steps = [(failed < FREE_TRIES, 0)]
    steps += [(failed == FREE_TRIES + n, now_s + wait_s) for n, wait_s in enumerate(DELAYS_S)]
    counted = (
        db.upsert(connection.engine, login_failures)
        .values(account=account, address=place, failed=1, next_try_s=0,
                forget_at_s=now_s + FORGET_S)
        .on_conflict_do_update(
            index_elements=["account", "address"],
            set_={
                "failed": failed,
                "next_try_s": case(*steps, else_=now_s + DELAY_MAX_S) if delays else 0,
                "forget_at_s": now_s + FORGET_S,
            },
            where=table.next_try_s <= now_s,
        )
        .returning(table.failed)
    )  # fmt: skip
    found: int | None = connection.execute(counted).scalar()
    return found
