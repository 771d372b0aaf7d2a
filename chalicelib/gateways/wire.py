"""The one HTTP session through which Stripe, Discord and the sandbox clock are called; tests put worlds below it."""
import functools

import requests

CONNECT_SECONDS, READ_SECONDS = 3, 8
TIMEOUT = (CONNECT_SECONDS, READ_SECONDS)
WORST_SECONDS = CONNECT_SECONDS + READ_SECONDS + 1


@functools.cache
def session():
    """A session that keeps connections and takes nothing from the environment (a ~/.netrc would replace Authorization)."""
    made = requests.Session()
    made.trust_env = False
    return made
