"""Discord over HTTP: one role at a time, never the whole list; members; sign-in.

Error codes, rate limits and bans: Discord's documentation (topics/rate-limits, topics/opcodes-and-status-codes), API v10.
"""
from urllib.parse import quote, urlencode

import requests

from chalicelib import ports, settings
from chalicelib.domain.closed import BAD_TOKEN, BANNED, EVERYWHERE, NO_ACCESS, RATE_LIMITED
from chalicelib.gateways import wire
from chalicelib.gateways.outcomes import Done, InDoubt, OutOfTime, Refused, Retry

USER_AGENT = "DiscordBot (https://github.com/rolekeep/rolekeep, 0.1.0)"
OUTAGE_SECONDS = 60
BAN_SECONDS = 600
EMPTY = object()    # the value of an answer that has no body: 204
_LONGEST_REASON = 160   # Discord takes 512 characters after URL encoding, which may triple it
NO_ACCESS_SECONDS = 3_600
NEVER = 10 * 365 * 86_400

_GONE = (10007, 10013)
_NO_ACCESS = (50001, 10004)
_REFUSALS = {50013: "missing_permissions", 10011: "role_deleted", 50028: "role_deleted", 40007: "banned_member"}


class SignInFailed(Exception):
    """Discord did not confirm who this is. `retry` is true when trying again may help."""

    def __init__(self, *, retry):
        super().__init__("Discord did not confirm the sign-in")
        self.retry = retry


def grant(*, server, user, role, reason, deadline):
    """The member holds the role: Done, Retry, Refused (not_in_server, missing_permissions, role_deleted …) or InDoubt."""
    return _changed(_bot("PUT", _role(server, user, role), server=server, reason=reason, deadline=deadline))


def strip(*, server, user, role, reason, deadline):
    """The member does not hold the role: the same outcomes as `grant`."""
    return _changed(_bot("DELETE", _role(server, user, role), server=server, reason=reason, deadline=deadline))


def _role(server, user, role):
    return f"/guilds/{server}/members/{user}/roles/{role}"


def _changed(answer):
    """Discord answers a role change with an empty 204; a 2xx with a body comes from something in between."""
    if isinstance(answer, Done) and answer.value is not EMPTY:
        return Retry(OUTAGE_SECONDS, "discord_unavailable")
    return answer


def member_roles(*, server, user, deadline):
    """Done(frozenset of role ids), Refused(not_in_server), or Retry; reading has no effect, so nothing is in doubt."""
    answer = _bot("GET", f"/guilds/{server}/members/{user}", server=server, deadline=deadline)
    if isinstance(answer, InDoubt):
        return Retry(OUTAGE_SECONDS, "discord_unavailable")
    if isinstance(answer, Done):
        try:
            return Done(frozenset(str(role) for role in answer.value["roles"]))
        except (KeyError, TypeError):
            return Retry(OUTAGE_SECONDS, "discord_unavailable")
    return answer


def role_counts(*, server, deadline):
    """Done({role id: how many members have it}) without @everyone, Refused or Retry (docs: resources/guild, role member counts)."""
    answer = _bot("GET", f"/guilds/{server}/roles/member-counts", server=server, deadline=deadline)
    if isinstance(answer, InDoubt):
        return Retry(OUTAGE_SECONDS, "discord_unavailable")
    if isinstance(answer, Done):
        counts = answer.value
        usable = isinstance(counts, dict) and all(type(count) is int and count >= 0 for count in counts.values())
        return answer if usable else Retry(OUTAGE_SECONDS, "discord_unavailable")
    return answer


def token_mark():
    """A short fingerprint of the bot token: tells whether the token that Discord refused is still the one in use."""
    import hashlib
    return hashlib.sha256(settings.get().discord_bot_token.encode()).hexdigest()[:16]


def authorize_url(*, state, challenge, redirect_uri):
    """Where a browser goes to sign in: authorization code, state, PKCE S256; nothing but `identify` is asked for."""
    query = urlencode({"response_type": "code", "client_id": settings.get().discord_client_id, "scope": "identify",
                       "redirect_uri": redirect_uri, "state": state, "code_challenge": challenge,
                       "code_challenge_method": "S256", "prompt": "none"})
    return f"{settings.get().discord_authorize_url}?{query}"


def who_signed_in(*, code, verifier, redirect_uri):
    """{id, name} of the Discord user who gave this code. Raises SignInFailed. The access token is used once and not kept."""
    config = settings.get()
    try:
        answer = wire.session().post(
            f"{config.discord_api_base}/oauth2/token", timeout=wire.TIMEOUT, allow_redirects=False,
            headers={"User-Agent": USER_AGENT}, auth=(config.discord_client_id, config.discord_client_secret),
            data={"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri, "code_verifier": verifier})
        if answer.status_code != 200:
            raise SignInFailed(retry=answer.status_code >= 500 or answer.status_code == 429)
        token = answer.json()
        if "identify" not in token["scope"].split():
            raise SignInFailed(retry=False)
        me = wire.session().get(f"{config.discord_api_base}/users/@me", timeout=wire.TIMEOUT, allow_redirects=False, headers={
            "User-Agent": USER_AGENT, "Authorization": f"Bearer {token['access_token']}"})
        if me.status_code != 200:
            raise SignInFailed(retry=True)
        user = me.json()
        return {"id": user["id"], "name": str(user.get("global_name") or user["username"])[:80]}
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError):
        raise SignInFailed(retry=True) from None


def _bot(method, path, *, server, deadline, reason=None):
    if ports.wall() + wire.WORST_SECONDS > deadline:
        raise OutOfTime
    headers = {"User-Agent": USER_AGENT, "Authorization": f"Bot {settings.get().discord_bot_token}"}
    if reason:
        headers["X-Audit-Log-Reason"] = quote(reason[:_LONGEST_REASON])
    try:
        answer = wire.session().request(method, f"{settings.get().discord_api_base}{path}", headers=headers,
                                        timeout=wire.TIMEOUT, allow_redirects=False)
    except requests.ConnectTimeout:
        return Retry(OUTAGE_SECONDS, "discord_unavailable")
    except requests.RequestException as error:
        if _never_sent(error):
            return Retry(OUTAGE_SECONDS, "discord_unavailable")
        return InDoubt()
    return _outcome(answer, server)


def _never_sent(error):
    from urllib3.exceptions import NewConnectionError
    inner = error.args[0] if error.args else None
    return isinstance(getattr(inner, "reason", inner), NewConnectionError)


def _outcome(answer, server):
    body = _json(answer)
    code = body.get("code") if isinstance(body, dict) else None
    if 200 <= answer.status_code < 300:
        return Done(EMPTY if answer.status_code == 204 else body)
    if answer.status_code == 401:
        return Retry(NEVER, BAD_TOKEN, EVERYWHERE)
    if answer.status_code == 429:
        return _limited(answer, body, server)
    if answer.status_code == 403 and not code or code == 40333:
        return _banned(answer)
    if code in _NO_ACCESS:
        return Retry(NO_ACCESS_SECONDS, NO_ACCESS, server)
    if code in _GONE:
        return Refused("not_in_server")
    if answer.status_code in (400, 403, 404) and code:
        return Refused(_REFUSALS.get(code, f"discord_{code}"))
    return Retry(OUTAGE_SECONDS, "discord_unavailable")


def _limited(answer, body, server):
    """A 429 of Discord's own carries X-RateLimit headers or a JSON retry_after; any other is a ban of our address."""
    told = body.get("retry_after") if isinstance(body, dict) else None
    if told is None and not any(name.lower().startswith("x-ratelimit") for name in answer.headers):
        return _banned(answer)
    after = max(_seconds(told), _seconds(answer.headers.get("Retry-After")), 1)
    everywhere = isinstance(body, dict) and body.get("global") is True or "X-RateLimit-Global" in answer.headers
    return Retry(after, RATE_LIMITED, EVERYWHERE if everywhere else server)


def _banned(answer):
    return Retry(max(_seconds(answer.headers.get("Retry-After")), BAN_SECONDS), BANNED, EVERYWHERE)


def _seconds(value):
    try:
        return min(max(float(value), 0), NEVER)
    except (TypeError, ValueError):
        return 0


def _json(answer):
    try:
        return answer.json()
    except ValueError:
        return None
