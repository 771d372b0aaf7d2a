"""Signing in with Discord: authorization code, state bound to the browser, PKCE; then an opaque, revocable session."""
import base64
import hashlib
import hmac

from chalicelib import ports, problem, settings
from chalicelib.domain import ids

_LONGEST = 512


def begin():
    """(address to send the browser to, the browser's own secret): a sign-in is under way for ten minutes."""
    from chalicelib.gateways import discord
    from chalicelib.store import sessions
    state, browser, verifier = ports.token(32), ports.token(32), ports.token(48)
    sessions.begin_sign_in(state=state, browser=browser, verifier=verifier, wall=ports.wall())
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    return discord.authorize_url(state=state, challenge=challenge, redirect_uri=redirect_uri()), browser


def finish(*, code, state, error, browser, before):
    """The secret of a new session; the one held before is over. Raises Refused, with nothing changed.

    `code`, `state` and `error` come from Discord's redirect, `browser` from this browser's cookie. The state is used up
    either way; an error together with a code is still an error.
    """
    from chalicelib.gateways import discord
    from chalicelib.store import sessions
    if not all(isinstance(value, str) and 0 < len(value) <= _LONGEST for value in (state, browser)):
        raise Refused
    sign_in = sessions.take_sign_in(state=state, wall=ports.wall())
    if error is not None or not isinstance(code, str) or not 0 < len(code) <= _LONGEST:
        raise Refused
    if sign_in is None or not hmac.compare_digest(sign_in.browser, sessions.digest(browser)):
        raise Refused
    try:
        who = discord.who_signed_in(code=code, verifier=sign_in.verifier, redirect_uri=redirect_uri())
    except discord.SignInFailed as failed:
        raise Refused(503 if failed.retry else 400) from None
    if not ids.valid("snowflake", who["id"]):
        raise Refused
    if before:
        sessions.end(secret=before)
    secret = ports.token(32)
    sessions.create(secret=secret, user=who["id"], name=who["name"], wall=ports.wall())
    return secret


def member(secret):
    """The member whose browser holds this session secret. Raises Problem 401."""
    from chalicelib.store import sessions
    found = sessions.read(secret=secret, wall=ports.wall()) if secret and len(secret) <= _LONGEST else None
    if found is None:
        raise problem.signed_out()
    return found


def end(secret):
    """The session is over."""
    from chalicelib.store import sessions
    sessions.end(secret=secret)


def csrf_token(secret):
    """The token that this session's page sends with every change: nobody without the cookie can work it out."""
    return hmac.new(secret.encode(), b"rolekeep csrf", hashlib.sha256).hexdigest()


def redirect_uri():
    """The one address to which Discord may send browsers back."""
    return f"{settings.get().public_url}/auth/discord/callback"


class Refused(Exception):
    """The sign-in did not work. A person's browser is waiting, so a page says so, with `status`: 400, or 503 to try again."""

    def __init__(self, status=400):
        super().__init__(status)
        self.status = status
