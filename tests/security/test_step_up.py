"""Account takeover from within: a session or a program's token is no proof of who acts on accounts.

What gives or takes power over accounts is done by who shows password and second factor again; the
operations are those that the table of rights marks.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
from sqlalchemy import text

from tests import kept_content, moderation_cases, waiting_approvals
from tests.security.platform import Caller, Platform, platform
from tests.security.test_permissions import OPERATIONS
from tests.security.test_sign_in import code_of, email_of, long_trusted, sign_in, with_totp
from tokenschain.control import mails
from tokenschain.control.api.context import Permission
from tokenschain.control.api.users import RESET_AFTER_S
from tokenschain.control.identity import tokens
from tokenschain.control.identity.ownership import Extent, StepUp
from tokenschain.control.observability import alerts
from tokenschain.infra.security import pack_signatures

PASSWORD = "correct horse battery"
NEW = "a better horse battery"
WITHOUT = {
    "POST /sessions": "it is signing in",
    "POST /sessions/link": "so is this",
    "DELETE /sessions": "it only ends the own session",
    "POST /me/totp": "it offers a secret that is not in force",
    "DELETE /me/signing-keys/{key_id}": "it takes from one's own",
    "POST /sign-ups": "nobody is there yet",
    "POST /sign-ups/look": "it changes nothing",
    "POST /sign-ups/confirm": "who signed up shows the password",
    "POST /invitations/look": "it changes nothing",
    "POST /invitations/accept": "who was invited chooses the first password",
}
"""Changes of accounts and sessions that ask for nothing more, and why."""
_numbers = itertools.count()


class Act(NamedTuple):
    """A request that gives or takes power over accounts."""

    method: str
    path: str
    body: Any = None


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    with platform(tmp_path_factory.mktemp("step-up")) as made:
        boss = made.operator
        for tenant in ("acme", "beta"):
            body = {"kind": "tenant", "tenant": tenant, "name": tenant}
            assert boss("POST", "/organization/units", body).status_code == 201
        desk = {"permissions": ["factors:reset", "users:read"]}
        assert boss("PUT", "/roles/acme/desk", desk).status_code == 200
        yield made


def _binding(house: Platform) -> str:
    held = house.operator("GET", f"/users/{house.person('acme', 'admin').id}").json()["bindings"]
    return str(held[0]["id"])


def _token(house: Platform) -> str:
    user = house.person("acme", "desk").id
    return str(house.operator("GET", f"/users/{user}/tokens").json()["data"][0]["id"])


def _decide(house: Platform) -> str:
    asked = {"tenant": "acme", "kind": "access", "end_user": "user-1"}
    made = house.operator("POST", "/subject-requests", asked).json()["id"]
    return f"/subject-requests/{made}/decide"


def _freeze() -> dict[str, str]:
    return {"tenant": "acme", "model": f"m{next(_numbers)}", "reason": "incident"}


def _hold() -> dict[str, Any]:
    return {"tenant": "acme", "from_s": 1, "until_s": 2, "reason": "case 7"}


def _lift(house: Platform) -> str:
    made = house.operator("POST", "/moderation-freezes", _freeze()).json()["id"]
    return f"/moderation-freezes/{made}/lift"


def _role(house: Platform) -> str:
    path = f"/roles/acme/mine-{next(_numbers)}"
    body = {"permissions": ["users:*", "keys:read"]}
    assert house.operator("PUT", path, body).status_code == 200
    return path


def _disabled(house: Platform) -> str:
    path = _member(house)
    admin = house.person("acme", "admin")  # what the platform disables, it alone enables
    assert admin("PATCH", path, {"disabled": True}).status_code == 200
    return path


def _invited(house: Platform, role: str, ago_s: int = 0) -> str:
    """Somebody with an open invitation, of so long ago."""
    body = {"tenant": "acme", "email": f"n{next(_numbers)}@acme.example", "name": "N", "role": role}
    made = house.operator("POST", "/invitations", body)
    assert made.status_code == 201, made.text
    with house.engine.begin() as connection:
        connection.execute(
            text("update audit_events set at_ms = at_ms - :ago where target = :target"),
            {"ago": ago_s * 1_000 + 1, "target": made.json()["user_id"]},
        )
    return str(made.json()["user_id"])


def _member(house: Platform) -> str:
    return f"/users/{house.person('acme', 'viewer', password=PASSWORD).id}"


ACTS: dict[str, tuple[Callable[[Platform, Caller], Act], ...]] = {
    "PATCH /users/{user_id}": (
        lambda house, _: Act("PATCH", _member(house), {"password": NEW}),
        lambda house, _: Act("PATCH", _member(house), {"email": f"n{next(_numbers)}@a.example"}),
        lambda house, _: Act(
            "PATCH", f"/users/{house.person('acme', 'admin').id}", {"disabled": True}
        ),
        lambda house, _: Act("PATCH", _disabled(house), {"disabled": False}),
    ),
    "POST /users": tuple(
        lambda _house, _, more=more: Act(
            "POST", "/users",
            {"tenant": "acme", "email": f"n{next(_numbers)}@acme.example", "name": "N", **more},
        )
        for more in ({"password": NEW}, {"kind": "service"}, {})
    ),
    "POST /users/{user_id}/bindings": tuple(
        lambda house, _, role=role: Act(
            "POST", f"{_member(house)}/bindings", {"role": role, "tenant": "acme"}
        )
        for role in ("owner", "admin", "desk", "developer", "viewer")
    ),
    "DELETE /bindings/{binding_id}": (
        lambda house, _: Act("DELETE", f"/bindings/{_binding(house)}"),
    ),
    "PUT /roles/{tenant}/{name}": (
        lambda house, _: Act("PUT", f"/roles/acme/r{next(_numbers)}",
                             {"permissions": ["users:write"]}),
        lambda house, _: Act("PUT", _role(house), {"permissions": ["keys:read"]}),
        lambda _house, _: Act("PUT", f"/roles/acme/r{next(_numbers)}",
                              {"permissions": ["keys:create"]}),
    ),
    "DELETE /roles/{tenant}/{name}": (lambda house, _: Act("DELETE", _role(house)),),
    "POST /users/{user_id}/tokens": (
        lambda house, _: Act(
            "POST", f"/users/{house.person('acme', None, kind='service').id}/tokens", {}
        ),
        lambda _, who: Act("POST", f"/users/{who.id}/tokens", {"permissions": ["*"]}),
    ),
    "POST /invitations": tuple(
        lambda _house, _, role=role: Act("POST", "/invitations", {
            "tenant": "acme", "email": f"n{next(_numbers)}@acme.example", "name": "N", "role": role
        })
        for role in ("owner", "viewer")
    ),
    "POST /invitations/{user_id}/resend": (
        lambda house, _: Act("POST", f"/invitations/{_invited(house, 'viewer', 60)}/resend"),
    ),
    "DELETE /invitations/{user_id}": (
        lambda house, _: Act("DELETE", f"/invitations/{_invited(house, 'admin')}"),
    ),
    "DELETE /tokens/{token_id}": (lambda house, _: Act("DELETE", f"/tokens/{_token(house)}"),),
    "PUT /content-policies": (lambda house, _: Act("PUT", "/content-policies", {
        "tenant": "acme", "content": "hash", "retention": "6 months"}),),
    "POST /audit-log/content/{call_id}/open": (lambda house, _: Act(
        "POST", f"/audit-log/content/{kept_content.enter(house, 'acme')}/open", {"reason": "r"}),),
    "POST /audit-log/content/export": (lambda house, _: Act(
        "POST", "/audit-log/content/export", {"tenant": "acme", "reason": "r"}),),
    "POST /content-erasures": (lambda house, _: Act(
        "POST", "/content-erasures", {"tenant": "acme", "end_user": "ada", "reason": "r"}),),
    "POST /legal-holds": (lambda house, _: Act("POST", "/legal-holds", _hold()),),
    "POST /legal-holds/{hold_id}/release": (lambda house, _: Act(
        "POST", f"/legal-holds/{kept_content.hold(house, 'acme')}/release", {"reason": "r"}),),
    "POST /moderation-freezes": (lambda house, _: Act("POST", "/moderation-freezes", _freeze()),),
    "POST /me/signing-keys": (
        lambda _house, _: Act(
            "POST", "/me/signing-keys",
            {"name": "laptop", "public_key": pack_signatures.new_key("international")[1]},
        ),
    ),
    "PUT /compliance/separation": (
        lambda _house, _: Act("PUT", "/compliance/separation", {"on": False}),
    ),
    "POST /approvals/{approval_id}/approve": (
        lambda house, _: Act(
            "POST", f"/approvals/{waiting_approvals.ask(house, 'acme')}/approve", {}
        ),
    ),
    "POST /approvals/{approval_id}/reject": (
        lambda house, _: Act(
            "POST", f"/approvals/{waiting_approvals.ask(house, 'acme')}/reject", {}
        ),
    ),
    "POST /moderation-freezes/{freeze_id}/lift": (lambda house, _: Act("POST", _lift(house)),),
    "POST /subject-requests/{request_id}/decide": (
        lambda house, _: Act("POST", _decide(house), {"decision": "done", "reason": "sent"}),
    ),
    "POST /moderation-suspensions/{suspension_id}/release": (
        lambda house, _: Act(
            "POST", f"/moderation-suspensions/{moderation_cases.suspend(house, 'acme')}/release",
            {"reason": "test"},
        ),
    ),
    "PATCH /organization/units/{unit_id}": (
        lambda house, _: Act(
            "PATCH", f"/organization/units/{house.unit('tenant', 'acme', 'acme')}",
            {"second_factor_required": False},
        ),
    ),
}  # fmt: skip
"""What asks whether proof was shown within the last minutes, by operation."""
IN_REQUEST = {
    "POST /me/step-up", "POST /me/password", "POST /me/totp/confirm",
    "POST /users/{user_id}/totp/reset",
}  # fmt: skip


def test_every_change_of_accounts_says_what_is_shown_again() -> None:
    said = {name: needed.step_up for name, needed in OPERATIONS.items() if needed}
    assert {n for n, s in said.items() if s in (StepUp.POWER, StepUp.ALWAYS)} == set(ACTS)
    assert {name for name, step_up in said.items() if step_up is StepUp.REQUEST} == IN_REQUEST
    parts = (
        "/users",
        "/invitations",
        "/sign-ups",
        "/me",
        "/bindings",
        "/roles",
        "/tokens",
        "/sessions",
    )
    changes = {
        name for name in OPERATIONS
        if not name.startswith("GET") and name.partition(" ")[2].startswith(parts)
    }  # fmt: skip
    of_no_account = {
        name
        for name in ACTS
        if any(p in name for p in ("/moderation-", "/approvals", "/compliance"))
    }
    of_no_account |= {name for name in ACTS if "content" in name or "/legal-holds" in name}
    of_no_account |= {
        "PATCH /organization/units/{unit_id}",
        "POST /subject-requests/{request_id}/decide",
    }
    assert changes == {*ACTS, *IN_REQUEST, *WITHOUT} - of_no_account


EVERYTHING = (
    "select id, email, name, password_hash, totp_sealed, disabled_at_s from users order by id",
    "select id, user_id, role from bindings order by id",
    "select * from roles order by tenant, name",
    "select id, user_id, kind from tokens order by id",
)


@pytest.mark.parametrize("tenant", ["acme", "*"], ids=["tenant", "platform"])
@pytest.mark.parametrize("operation", ACTS)
def test_a_session_alone_gives_and_takes_no_power(
    house: Platform, operation: str, tenant: str
) -> None:
    stolen = house.person(tenant, "owner", password=PASSWORD, stepped_up=False)
    program = house.person(tenant, "owner", token_kind="api")
    late = house.person(tenant, "owner", password=PASSWORD)
    _wait(house, late, tokens.STEP_UP_S + 1)
    for make in ACTS[operation]:
        act = make(house, stolen)
        if tenant != "*" and _needed(operation).extent is Extent.PLATFORM:
            continue
        if act.method == "PATCH" and "email" in act.body and tenant != "*":
            continue  # the platform's to change
        own = act.path == f"/users/{stolen.id}/tokens"
        before = [house.rows(one) for one in EVERYTHING]
        for who, code in ((stolen, "step_up_required"), (late, "step_up_required"),
                          (program, "permission_denied")):  # fmt: skip
            reply = who(act.method, f"/users/{who.id}/tokens" if own else act.path, act.body)
            assert reply.status_code == 403, (act, reply.text)
            assert reply.json()["error"]["code"] == code, (act, reply.text)
        assert [house.rows(one) for one in EVERYTHING] == before, act
        assert stolen("POST", "/me/step-up", {"password": NEW}).status_code == 401
        assert stolen(*act).status_code == 403
        assert stolen("POST", "/me/step-up", {"password": PASSWORD}).status_code == 200
        assert stolen(*act).status_code in (200, 201), act
        _wait(house, stolen, tokens.STEP_UP_S + 1)


def _needed(operation: str) -> Permission:
    needed = OPERATIONS[operation]
    assert needed is not None
    return needed


def _wait(house: Platform, caller: Caller, seconds: int) -> None:
    """Let time pass since somebody signed in and showed proof."""
    statement = (
        "update tokens set stepped_up_at_s = stepped_up_at_s - :s, created_at_s = created_at_s - :s"
        " where user_id = :i"
    )
    with house.engine.begin() as connection:
        connection.execute(text(statement), {"s": seconds, "i": caller.id})


def test_what_only_takes_away_what_is_no_power_asks_for_nothing_more(house: Platform) -> None:
    """Who finds somebody at work who should not be acts at once, and so does a program."""
    admin = house.person("acme", "admin", stepped_up=False)
    program = house.person("acme", "admin", token_kind="api")
    for who in (admin, program):
        path = _member(house)
        held = house.operator("GET", path).json()["bindings"]
        assert who("PATCH", path, {"disabled": True, "name": "M"}).status_code == 200
        assert who("DELETE", f"/bindings/{held[0]['id']}").status_code == 200


def test_what_one_session_showed_another_has_not(house: Platform) -> None:
    owner, _, codes = with_totp(house, "acme", "owner")
    other = house.signed_in(owner.id)
    act = f"/users/{owner.id}/tokens"
    assert other("POST", "/me/step-up", {"password": PASSWORD}).status_code == 401, "no code"
    assert other("POST", act, {}).status_code == 403
    proof = {"password": PASSWORD, "recovery_code": codes[0]}
    third = house.signed_in(owner.id)
    assert third("POST", "/me/step-up", proof).status_code == 200
    assert third("POST", act, {}).status_code == 201
    assert other("POST", act, {}).status_code == 403
    assert other("POST", "/me/step-up", proof).status_code == 401, "each counts once"
    program = house.person("acme", "owner", password=PASSWORD, token_kind="api")
    assert program("POST", "/me/step-up", {"password": PASSWORD}).status_code == 403


def test_whom_single_sign_on_lets_in_signs_in_again(house: Platform) -> None:
    person = house.person("acme", "owner", stepped_up=False)
    with house.engine.begin() as connection:
        linked = "update users set oidc_subject = :s, oidc_issuer = 'i' where id = :i"
        connection.execute(text(linked), {"s": person.id, "i": person.id})
    act = f"/users/{person.id}/tokens"
    assert person("POST", act, {}).status_code == 201
    _wait(house, person, tokens.STEP_UP_S + 1)
    late = person("POST", act, {})
    assert (late.status_code, late.json()["error"]["code"]) == (403, "step_up_required")
    assert "sign in again" in late.json()["error"]["message"]
    assert person("POST", "/me/step-up", {"password": PASSWORD}).status_code == 409


def test_the_old_password_alone_changes_none_beside_a_second_factor(house: Platform) -> None:
    person, secret, codes = with_totp(house, "acme", "viewer")
    change = {"old": PASSWORD, "new": NEW}
    assert person("POST", "/me/password", change).status_code == 401
    assert person("POST", "/me/password", change | {"code": "000000"}).status_code == 401
    wrong = {"old": NEW, "new": NEW, "recovery_code": codes[0]}
    assert person("POST", "/me/password", wrong).status_code == 401
    done = person("POST", "/me/password", change | {"recovery_code": codes[0]})
    assert done.status_code == 200, done.text
    email = email_of(house, person.id)
    assert sign_in(house, email, NEW, code=code_of(secret, 1)).status_code == 201


def test_a_new_owner_does_not_take_the_first_ones_factor_away(house: Platform) -> None:
    """Who holds a session, even with its password, does not walk around another's factor."""
    first, _, _ = with_totp(house, "acme", "owner")
    path = f"/users/{first.id}/totp/reset"
    weak = house.person("acme", "owner", password=PASSWORD, stepped_up=False)
    long_trusted(house, weak)
    proof = {"password": PASSWORD}
    said = weak("POST", path, proof)
    assert said.status_code == 403 and "no second factor" in said.text
    second, _, codes = with_totp(house, "acme", None)
    bindings, owner = f"/users/{second.id}/bindings", {"role": "owner", "tenant": "acme"}
    assert weak("POST", bindings, owner).status_code == 403, "a stolen session"
    assert weak("POST", "/me/step-up", proof).status_code == 200
    assert weak("POST", bindings, owner).status_code == 201

    def reset() -> int:
        return second(
            "POST", path, {"password": PASSWORD, "recovery_code": codes.pop()}
        ).status_code

    def let(seconds: int, statement: str) -> None:
        with house.engine.begin() as connection:
            long_ago = {"s": int(time.time()) - seconds, "i": second.id}
            connection.execute(text(statement), long_ago)

    assert reset() == 403, "both are new"
    let(RESET_AFTER_S + 60, "update users set totp_since_s = :s where id = :i")
    assert reset() == 403, "the right is new"
    let(RESET_AFTER_S // 2, "update bindings set created_at_s = :s where user_id = :i")
    assert reset() == 403, "it is not a day old"
    assert house.rows(f"select totp_sealed from users where id = '{first.id}'") != [(None,)]
    let(RESET_AFTER_S + 60, "update bindings set created_at_s = :s where user_id = :i")
    assert reset() == 200
    other, _, _ = with_totp(house, "acme", "owner")
    assert house.operator("POST", f"/users/{other.id}/totp/reset", {}).status_code == 200


def test_who_loses_a_second_factor_is_told_by_mail(
    house: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(mails, "send_mail", lambda _, message, __: told.append(message["To"]))
    person, _, _ = with_totp(house, "acme", "viewer")
    assert house.operator("POST", f"/users/{person.id}/totp/reset", {}).status_code == 200
    nothing: Any = None
    for host in (None, "mail.example"):
        mail = mails.Mail(host, 25, None, lambda: None, "tc@example.com", tls=False)
        sender = alerts.Sender(house.engine, nothing, nothing, mail, lambda *_: None, Mock())
        if host is not None:
            with house.engine.begin() as connection:
                connection.execute(
                    text("update alerts set sent_at_s = null, targets_left = null, next_try_s = 0")
                )
        assert asyncio.run(sender.send_due(time.time() + 1)) >= 1
        assert (email_of(house, person.id) in told) is (host is not None)
