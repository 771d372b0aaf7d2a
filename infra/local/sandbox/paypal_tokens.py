"""PayPal's OAuth server: access tokens of merchants' REST apps (POST /v1/oauth2/token).

The official files do not hold it; shapes by developer.paypal.com/api/rest/authentication and public bug reports
(docs/sandbox-paypal-notes.md). Tokens live by the wall clock: a clock moved by a year must not shut the product out.
"""
import secrets
from base64 import b64decode

from .paypal_errors import UNAUTHENTICATED, Refusal, TokenRefusal
from .paypal_world import draw, iso

SCOPE = ("https://uri.paypal.com/services/subscriptions https://uri.paypal.com/services/disputes/read-seller "
         "https://uri.paypal.com/services/applications/webhooks https://api.paypal.com/v1/payments/.* openid")
TOKEN_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
AGAIN = 600     # a token with more seconds left than this is given again (assumed; that it is given again is public knowledge)


class Tokens:
    """The access tokens of all merchants. `accounts` is {merchant id: what has its `merchant`}; `whole` the sandbox's state."""

    def __init__(self, whole, accounts, *, wall, options):
        self.kept, self.whole, self.accounts = whole["tokens"], whole, accounts
        self._wall, self._options = wall, options

    def grant(self, request):
        """The answer's body to a token request; TokenRefusal otherwise."""
        merchant = self._client(request.headers.get("authorization", ""))
        if request.form().get("grant_type") != "client_credentials":
            raise TokenRefusal("unsupported_grant_type", "Grant Type is NULL" if not request.body else "unsupported grant_type", 400)
        now, token = self._wall(), self.for_merchant(merchant.id)
        return {"scope": SCOPE, "access_token": token, "token_type": "Bearer", "app_id": "APP-80W284485P519543T",
                "expires_in": int(self.kept[token]["until"] - now), "nonce": f"{iso(now)}{draw(self.whole, 43, TOKEN_LETTERS)}"}

    def _client(self, header):
        scheme, _, value = header.partition(" ")
        try:
            given = b64decode(value, validate=True).decode() if scheme.lower() == "basic" else ""
        except ValueError:
            given = ""
        name, _, secret = given.partition(":")
        for merchant in [account.merchant for account in self.accounts.values()]:
            if secrets.compare_digest(name.encode(), merchant.client_id.encode()) and secrets.compare_digest(secret.encode(), merchant.secret.encode()):
                return merchant
        raise TokenRefusal("invalid_client", "Client Authentication failed")

    def merchant(self, request):
        """The merchant whose token the request carries; Refusal 401 otherwise."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal(401, "AUTHENTICATION_FAILURE", UNAUTHENTICATED)
        entry = self.kept.get(token.strip())
        if entry is None or entry["until"] <= self._wall() or entry["merchant"] not in self.accounts:
            raise TokenRefusal("invalid_token", "Token signature verification failed")
        return entry["merchant"]

    def for_merchant(self, merchant_id):
        """A token of that merchant with some life left."""
        now = self._wall()
        for old in [token for token, entry in self.kept.items() if entry["until"] <= now]:
            del self.kept[old]
        token = next((t for t, e in self.kept.items() if e["merchant"] == merchant_id and e["until"] > now + AGAIN), None)
        if token is None:
            token = "A21AA" + draw(self.whole, 86, TOKEN_LETTERS)
            self.kept[token] = {"merchant": merchant_id, "until": now + self._options.token_life}
        return token

    def revoke(self):
        """No token given so far is good any more."""
        self.kept.clear()
