"""Web sessions and sign-in states, stored under the hash of what the browser holds; always filtered by time in code."""
import hashlib
from dataclasses import dataclass

from pynamodb.exceptions import DoesNotExist

from chalicelib.settings import SESSION_SECONDS, SIGN_IN_SECONDS
from chalicelib.store.tables import Session


@dataclass(frozen=True)
class Member:
    """Who is signed in."""
    user: str
    name: str


@dataclass(frozen=True)
class SignIn:
    """A sign-in under way: the PKCE verifier, and the hash of the browser's own secret."""
    verifier: str
    browser: str


def digest(secret):
    """The form in which a bearer secret is stored: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode()).hexdigest()


def begin_sign_in(*, state, browser, verifier, wall):
    """The state is good for one callback of this browser within ten minutes."""
    Session(f"state:{digest(state)}", kind="state", verifier=verifier, browser=digest(browser),
            expires_at=int(wall) + SIGN_IN_SECONDS, ttl=int(wall) + SIGN_IN_SECONDS).save()


def take_sign_in(*, state, wall):
    """The sign-in that this state began, or None when it is unknown, too old, or was used before. It is used now."""
    item = Session(f"state:{digest(state)}")
    answer = Session._get_connection().delete_item(item.id, return_values="ALL_OLD").get("Attributes")
    if not answer:
        return None
    item = Session.from_raw_data(answer)
    if item.kind != "state" or item.expires_at <= wall:
        return None
    return SignIn(item.verifier, item.browser)


def create(*, secret, user, name, wall):
    """Whoever holds `secret` is this member for thirty days."""
    Session(f"session:{digest(secret)}", kind="session", user_id=user, name=name,
            expires_at=int(wall) + SESSION_SECONDS, ttl=int(wall) + SESSION_SECONDS).save()


def read(*, secret, wall):
    """The member who is signed in with `secret`, or None."""
    try:
        item = Session.get(f"session:{digest(secret)}", consistent_read=True)
    except DoesNotExist:
        return None
    if item.kind != "session" or item.expires_at <= wall:
        return None
    return Member(item.user_id, item.name)


def of_user(user, *, wall):
    """[expires_at] of this user's web sessions that are not over, earliest first."""
    return [int(item.expires_at) for item in Session.by_user.query(user, Session.expires_at > int(wall))]


def end_all(user):
    """Every web session of this user that the index shows is over."""
    for item in list(Session.by_user.query(user)):
        Session(item.id).delete()


def end(*, secret):
    """The session is over, at once and everywhere."""
    Session(f"session:{digest(secret)}").delete()
