"""The one HTTP session through which Stripe, Discord and the sandbox clock are called; tests put worlds below it."""
import functools
from http.cookiejar import DefaultCookiePolicy

import requests

CONNECT_SECONDS, READ_SECONDS = 3, 8
TIMEOUT = (CONNECT_SECONDS, READ_SECONDS)
WORST_SECONDS = CONNECT_SECONDS + READ_SECONDS + 1


@functools.cache
def session():
    """A session that keeps connections, but no cookies (one member's would go along with the next one's calls).

    It takes nothing from the environment either: a ~/.netrc would replace the Authorization header.
    """
    made = requests.Session()
    made.trust_env = False
    made.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    return made
