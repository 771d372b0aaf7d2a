"""Discord's OAuth2 in the sandbox: consent, code, token, revocation."""
import base64
import binascii
import hashlib
import hmac
from urllib.parse import urlencode, urlsplit

from . import discord_pages
from .http import json_answer, redirect, text_answer

CODE_SECONDS = 100  # discord-api-docs#2526, a Discord engineer: codes work once and for 100 seconds
TOKEN_SECONDS = 604800
ISSUER = "https://discord.com"  # sent back as `iss`, as https://discord.com/.well-known/oauth-authorization-server announces
SCOPES = {"identify", "email", "guilds", "guilds.join", "guilds.members.read", "role_connections.write", "openid"}


class TokenError(Exception):
    """An error of the token endpoint in OAuth's own shape (RFC 6749, 5.2)."""

    def __init__(self, error, description=None, status=400):
        super().__init__(error)
        self.body = {"error": error, **({"error_description": description} if description else {})}
        self.status = status


class OAuth:
    """Codes and tokens live in `state` ("codes", "tokens") and by the wall clock: moving the sandbox clock signs nobody out."""

    def __init__(self, state, world, app, *, wall, new_secret):
        self._codes, self._tokens = state.setdefault("codes", {}), state.setdefault("tokens", {})
        self._world, self._app, self._wall, self._new_secret = world, app, wall, new_secret

    # The consent page

    def consent_page(self, request):
        """The page on which a person says who they are and authorizes the app, or why that cannot be asked."""
        wish = request.query
        return self._refused(wish) or text_answer(
            discord_pages.consent(wish, self._app["name"], self._world.people()), kind="text/html",
            headers={"Cache-Control": "no-store"})

    def decide(self, request):
        """The browser goes back to the app with a code, or with access_denied."""
        wish = request.form()
        refused = self._refused(wish)
        if refused:
            return refused
        if wish.get("decision") != "authorize":
            return self._back(wish, {"error": "access_denied",
                                     "error_description": "The resource owner or authorization server denied the request"})
        user_id = wish.get("user_id", "")
        if user_id not in dict(self._world.people()):
            return text_answer(discord_pages.problem("There is no such user in this sandbox."), 400, kind="text/html")
        forget_expired(self._codes, self._wall())
        code = self._new_secret()
        self._codes[code] = {"user_id": user_id, "redirect_uri": wish["redirect_uri"], "scope": wish["scope"],
                             "challenge": wish.get("code_challenge") or None, "until": self._wall() + CODE_SECONDS}
        return self._back(wish, {"code": code})

    def _refused(self, wish):
        """An error page for what must not be redirected, a redirect with the error for the rest, or None."""
        why = None
        if wish.get("client_id") != self._app["client_id"]:
            why = "Unknown Application"
        elif wish.get("redirect_uri") not in self._app["redirect_uris"]:
            why = "Invalid OAuth2 redirect_uri"
        elif wish.get("response_type") != "code":
            why = "Invalid OAuth2 response_type"
        elif wish.get("code_challenge") and wish.get("code_challenge_method") != "S256":
            why = "Invalid OAuth2 code_challenge_method"
        if why:
            return text_answer(discord_pages.problem(why), 400, kind="text/html")
        scopes = set(wish.get("scope", "").split())
        if not scopes or scopes - SCOPES:
            return self._back(wish, {"error": "invalid_scope",
                                     "error_description": "The requested scope is invalid, unknown, or malformed."})
        return None

    @staticmethod
    def _back(wish, answer):
        answer = {**answer, **({"state": wish["state"]} if "state" in wish else {}), "iss": ISSUER}
        glue = "&" if urlsplit(wish["redirect_uri"]).query else "?"
        return redirect(wish["redirect_uri"] + glue + urlencode(answer))

    # The token endpoints

    def token(self, request):
        """A bearer token for a code."""
        try:
            form = self._authenticated_form(request)
            if form.get("grant_type") != "authorization_code":
                raise TokenError("unsupported_grant_type", "Only authorization_code is known to this sandbox.")
            return json_answer(self._exchange(form), headers={"Cache-Control": "no-store"})
        except TokenError as error:
            return json_answer(error.body, error.status)

    def revoke(self, request):
        """The token's whole authorization is gone: its access and refresh token. 200 for an unknown token too (RFC 7009)."""
        try:
            token = self._authenticated_form(request).get("token")
        except TokenError as error:
            return json_answer(error.body, error.status)
        for access, grant in list(self._tokens.items()):
            if token in (access, grant["refresh_token"]):
                del self._tokens[access]
        return json_answer({})

    def bearer(self, token):
        """The id of the user whose live token this is, if it has the scope identify; else None."""
        grant = self._tokens.get(token)
        if not grant or grant["until"] <= self._wall() or "identify" not in grant["scope"].split():
            return None
        return grant["user_id"]

    def _exchange(self, form):
        grant = self._codes.pop(form.get("code"), None)  # whatever comes of it, a code is used up by being shown
        if not grant or grant["until"] <= self._wall():
            raise TokenError("invalid_grant", 'Invalid "code" in request.')
        if form.get("redirect_uri") != grant["redirect_uri"]:
            raise TokenError("invalid_grant", 'Invalid "redirect_uri" in request.')
        if challenge_of(form.get("code_verifier")) != grant["challenge"]:
            raise TokenError("invalid_grant", 'Invalid "code_verifier" in request.')
        forget_expired(self._tokens, self._wall())
        access, refresh = self._new_secret(), self._new_secret()
        self._tokens[access] = {"user_id": grant["user_id"], "scope": grant["scope"], "refresh_token": refresh,
                                "until": self._wall() + TOKEN_SECONDS}
        return {"token_type": "Bearer", "access_token": access, "expires_in": TOKEN_SECONDS, "refresh_token": refresh,
                "scope": grant["scope"]}

    def _authenticated_form(self, request):
        """The form of a caller who proved to be the app, with HTTP Basic or in the body; only form encoding is read."""
        if not (request.headers.get("content-type") or "").startswith("application/x-www-form-urlencoded"):
            raise TokenError("invalid_request", "The body must be application/x-www-form-urlencoded.")
        form = request.form()
        client, secret = basic_credentials(request.headers.get("authorization")) or \
            (form.get("client_id", ""), form.get("client_secret", ""))
        right = (client == self._app["client_id"]) & hmac.compare_digest(secret.encode(), self._app["client_secret"].encode())
        if not right:
            raise TokenError("invalid_client", status=401)
        return form


def forget_expired(grants, now):
    """Only grants that are still good are left."""
    for key in [key for key, grant in grants.items() if grant["until"] <= now]:
        del grants[key]


def challenge_of(verifier):
    """The S256 challenge of a PKCE verifier (RFC 7636); None for none."""
    if verifier is None:
        return None
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def basic_credentials(header):
    """(name, password) of an HTTP Basic header, or None."""
    if not header or not header.lower().startswith("basic "):
        return None
    try:
        name, _, password = base64.b64decode(header[6:], validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return name, password
