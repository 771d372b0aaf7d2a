"""Discord's limits in the sandbox: buckets per route and guild, the global limit, and the ban that follows abuse."""
import hashlib
import math

# (requests, seconds). Real limits differ per route and are not published; these are wide enough for a smooth demo.
GENEROUS = {"global": (50, 1.0), "role_change": (50, 10.0), "member": (50, 10.0), "roles": (50, 10.0), "role_counts": (50, 10.0), "guild": (50, 10.0),
            "me": (50, 10.0), "oauth": (50, 10.0)}
INVALID_REQUESTS, INVALID_WINDOW = 10_000, 600.0  # rate-limit documentation: 10,000 per 10 minutes and address
BAN_SECONDS = 3600.0  # assumption: the documentation says "temporarily"


class Limits:
    """Counts requests in fixed windows. `now` is sandbox time, so a moved clock opens a closed bucket and ends a ban."""

    def __init__(self, limits, *, now):
        self.limits, self._now = {**GENEROUS, **(limits or {})}, now
        self._windows, self._invalid, self.ban = {}, [], None

    def spend(self, name, top_level_id):
        """(headers, None) and one request used up, or (headers, answer body) of the 429 when a window is full."""
        global_wait = self._wait("global", "")
        if global_wait is not None:
            return self._refusal(global_wait, scope="global", headers={"X-RateLimit-Global": "true"})
        wait = self._wait(name, top_level_id)
        headers = self._headers(name, top_level_id)
        if wait is not None:
            return self._refusal(wait, scope="user", headers=headers)
        self._windows["global", ""][1] += 1
        self._windows[name, top_level_id][1] += 1
        return self._headers(name, top_level_id), None

    def _wait(self, name, key):
        """Seconds until the window ends when it is full, else None; a window that has ended is begun again."""
        most, length = self.limits[name]
        now = self._now()
        window = self._windows.setdefault((name, key), [now, 0])
        if not window[0] <= now < window[0] + length:
            window[:] = [now, 0]
        return window[0] + length - now if window[1] >= most else None

    def _headers(self, name, key):
        most, length = self.limits[name]
        begun, used = self._windows[name, key]
        return {"X-RateLimit-Limit": str(most), "X-RateLimit-Remaining": str(most - used),
                "X-RateLimit-Reset": f"{begun + length:.3f}", "X-RateLimit-Reset-After": f"{begun + length - self._now():.3f}",
                "X-RateLimit-Bucket": hashlib.sha256(name.encode()).hexdigest()[:32]}

    @staticmethod
    def _refusal(wait, *, scope, headers):
        wait = max(0.001, math.ceil(wait * 1000) / 1000)
        body = {"message": "You are being rate limited.", "retry_after": wait, "global": scope == "global"}
        return {**headers, "Retry-After": str(math.ceil(wait)), "X-RateLimit-Scope": scope}, body

    def count(self, status, headers):
        """An answer that Discord calls invalid (401, 403, 429 except shared ones) is counted; too many: a ban begins."""
        if status not in (401, 403, 429) or headers.get("X-RateLimit-Scope") == "shared":
            return
        self._invalid.append(self._now())
        if self.invalid() > INVALID_REQUESTS:
            self.begin_ban(BAN_SECONDS)

    def invalid(self):
        """How many invalid requests the last ten minutes saw."""
        since = self._now() - INVALID_WINDOW
        self._invalid = [at for at in self._invalid if at > since]
        return len(self._invalid)

    def begin_ban(self, seconds, *, status=429, as_json=False):
        """Every API call is refused before it reaches Discord, for so long."""
        self.ban = {"until": self._now() + seconds, "status": status, "as_json": as_json}

    def banned(self):
        """The ban in force, or None."""
        if self.ban and self._now() >= self.ban["until"]:
            self.ban = None
        return self.ban
