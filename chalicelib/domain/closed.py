"""What closes Discord for every worker, until when, and why."""
from dataclasses import dataclass

EVERYWHERE = "everywhere"   # the scope of what concerns all servers; any other scope is a server's id
RATE_LIMITED, NO_ACCESS, BANNED, BAD_TOKEN = "rate_limited", "no_access", "banned", "bad_token"


@dataclass(frozen=True)
class Closed:
    """Discord may not be called before `until` (wall clock). `token_mark` names the bot token that was refused."""
    scope: str
    until: float
    why: str
    token_mark: str | None = None
