"""A stateful stand-in for Discord's HTTP API v10 and OAuth2, as far as Rolekeep uses them. Sources: docs/sandbox-discord-notes.md."""
import contextlib
import re
import secrets
import threading
import time
from datetime import datetime, timezone
from urllib.parse import unquote

from . import discord_pages, spec, statefile
from .discord_control import Control
from .discord_limits import Limits
from .discord_oauth import OAuth
from .discord_world import ApiError, World, check_snowflake, form_error
from .http import Answer, Front, json_answer, redirect, text_answer

ROLE = r"/guilds/(?P<guild_id>[^/]+)/members/(?P<user_id>[^/]+)/roles/(?P<role_id>[^/]+)"
ROUTES = [  # (path, bucket, {method: name of the method here})
    (ROLE, "role_change", {"PUT": "_put_role", "DELETE": "_delete_role"}),
    (r"/guilds/(?P<guild_id>[^/]+)/members/(?P<user_id>[^/]+)", "member", {"GET": "_get_member"}),
    (r"/guilds/(?P<guild_id>[^/]+)/roles", "roles", {"GET": "_get_roles"}),
    (r"/guilds/(?P<guild_id>[^/]+)/roles/member-counts", "role_counts", {"GET": "_get_role_counts"}),
    (r"/guilds/(?P<guild_id>[^/]+)", "guild", {"GET": "_get_guild"}),
    (r"/users/@me", "me", {"GET": "_get_me"}),
]
SANDBOX_APP = {"name": "Rolekeep", "client_id": "1100000000000000001", "client_secret": "sandbox-client-secret",
               "bot_token": "sandbox-bot-token", "bot_id": "1100000000000000001", "redirect_uris": []}


class DiscordSandbox:
    """Discord with one app. `handle` answers requests in process; `http.serve(sandbox.handle, port)` puts it on a port.

    `clock` is the shared SandboxClock; `path` the JSON file that keeps the state (None: memory only); `app` overrides parts
    of SANDBOX_APP, above all `redirect_uris`; `limits` overrides parts of discord_limits.GENEROUS; `new_secret` makes codes
    and tokens. Nothing here asks the wall clock or a random source by itself.
    """

    def __init__(self, *, clock, path=None, app=None, limits=None, new_secret=secrets.token_urlsafe, sleep=time.sleep):
        self.clock, self._path, self._lock = clock, path, threading.RLock()
        self.state = statefile.read(path, {})
        self.app = {**SANDBOX_APP, **(app or {}), **self.state.setdefault("app", {})}
        self.world = World(self.state, bot_id=self.app["bot_id"], now=lambda: discord_time(clock.now()))
        self.limits = Limits(limits, now=clock.now)
        self._oauth = OAuth(self.state, self.world, self.app, wall=clock.wall, new_secret=new_secret)
        self._control = Control(self)
        self.front = Front(self._answer, clock=clock, sleep=sleep, seen=self._seen, contract=spec.DiscordContract(), changes={
            "member_leaves": self._in_between(self.world.leave, "guild_id", "user_id"),
            "member_banned": self._in_between(self.world.ban, "guild_id", "user_id"),
            "role_deleted": self._in_between(self.world.delete_role, "guild_id", "role_id"),
            "bot_removed": self._in_between(self.world.kick_bot, "guild_id"),
            "ban": self._begin_ban})
        self.handle = self.front.handle

    def save(self):
        """The state file holds what the sandbox knows now."""
        statefile.write(self._path, self.state)

    def _seen(self, request, answer):
        if request.path.startswith("/api/") and not (answer.status in (403, 429) and self.limits.banned()):
            self.limits.count(answer.status, answer.headers)

    def _in_between(self, change, *names):
        """The fault that makes `change` happen to what the request's path names, or the order."""
        def happens(request, order):
            ids = {**spec.template_of(spec.api_path(request.path) or "")[1], **order}
            with self._lock, contextlib.suppress(ApiError):     # it has happened already
                change(*(ids[name] for name in names))
                self.save()
        return happens

    def _begin_ban(self, request, order):
        self.limits.begin_ban(float(order.get("seconds", 3600)), status=order.get("status", 429), as_json=bool(order.get("as_json")))

    def _answer(self, request):
        with self._lock:
            answer = self._page(request) or self._api(request)
            if request.method != "GET":
                self.save()
            return answer

    def _page(self, request):
        """The answer of what is not the API: controls and pages; None for the rest."""
        if request.path.startswith("/_sandbox/"):
            return self._control.answer(request)
        match request.method, request.path:
            case "GET", "/oauth2/authorize":
                return self._oauth.consent_page(request)
            case "POST", "/oauth2/authorize":
                return self._oauth.decide(request)
            case "GET", "/":
                guilds = [self._control.view(guild_id) for guild_id in self.state["guilds"]]
                return text_answer(discord_pages.overview(guilds, self.state["users"], self.clock.as_json()["iso"]), kind="text/html")
            case "POST", "/":
                self._control.by_hand(request.form())
                return redirect("/")
        return None

    # The API

    def _api(self, request):
        found = re.fullmatch(r"/api(?:/v10)?(/.*)", request.path)
        if not found:
            return json_answer({"message": "404: Not Found", "code": 0}, 404)
        edge = self._at_the_edge(request)
        if edge:
            return edge
        path = found[1]
        if path in ("/oauth2/token", "/oauth2/token/revoke"):
            return self._token_call(request, path)
        for pattern, bucket, methods in ROUTES:
            match = re.fullmatch(pattern, path)
            if match:
                ids = {name: unquote(value) for name, value in match.groupdict().items()}
                return self._limited(request, bucket, ids, methods.get(request.method))
        return json_answer({"message": "404: Not Found", "code": 0}, 404)

    def _at_the_edge(self, request):
        """What Cloudflare answers in Discord's place: a ban, or an unwelcome User-Agent; else None."""
        ban = self.limits.banned()
        if ban and ban["as_json"]:
            return json_answer({"code": 0, "message": "You are being blocked from accessing our API temporarily due to exceeding "
                                "our rate limits frequently."}, ban["status"])
        if ban:
            return text_answer("error code: 1015", ban["status"])
        if not re.match(r"DiscordBot \([^)]+\)", request.headers.get("user-agent") or ""):
            return json_answer({"message": "internal network error", "code": 40333}, 403)
        return None

    def _token_call(self, request, path):
        if request.method != "POST":
            return json_answer({"message": "405: Method Not Allowed", "code": 0}, 405)
        headers, refusal = self.limits.spend("oauth", "")
        if refusal:
            return json_answer(refusal, 429, headers)
        answer = self._oauth.token(request) if path == "/oauth2/token" else self._oauth.revoke(request)
        return Answer(answer.status, {**headers, **answer.headers}, answer.body)

    def _limited(self, request, bucket, ids, method):
        headers, refusal = self.limits.spend(bucket, ids.get("guild_id", ""))
        if refusal:
            return json_answer(refusal, 429, headers)
        if method is None:
            return json_answer({"message": "405: Method Not Allowed", "code": 0}, 405, headers)
        try:
            self._authorize(request, method)
            for name, value in ids.items():
                check_snowflake(name, value)
            answer = getattr(self, method)(request, **ids)
        except ApiError as error:
            answer = error_answer(error)
        return Answer(answer.status, {**headers, **answer.headers}, answer.body)

    def _authorize(self, request, method):
        """The caller is the bot, or for /users/@me alone a user's bearer. ApiError 401 otherwise."""
        header = request.headers.get("authorization") or ""
        if secrets.compare_digest(header.encode(), f"Bot {self.app['bot_token']}".encode()):
            return
        if method == "_get_me" and header.startswith("Bearer ") and self._oauth.bearer(header[7:]):
            return
        raise ApiError(401, 0, "401: Unauthorized")

    def _get_me(self, request):
        header = request.headers["authorization"]
        user_id = self._oauth.bearer(header[7:]) if header.startswith("Bearer ") else self.app["bot_id"]
        return json_answer({**self._user(user_id), "mfa_enabled": False, "locale": "en-US", "premium_type": 0})

    def _get_guild(self, request, guild_id):
        guild = self.world.bots_guild(guild_id)
        return json_answer({**GUILD_DEFAULTS, "id": guild_id, "name": guild["name"], "owner_id": guild["owner_id"],
                            "roles": self._roles(guild)})

    def _get_roles(self, request, guild_id):
        return json_answer(self._roles(self.world.bots_guild(guild_id)))

    def _get_role_counts(self, request, guild_id):
        guild = self.world.bots_guild(guild_id)
        held = [role for member in guild["members"].values() for role in member["roles"]]
        return json_answer({role: held.count(role) for role in guild["roles"] if role != guild_id})

    def _get_member(self, request, guild_id, user_id):
        member = self.world.member(self.world.bots_guild(guild_id), user_id)
        return json_answer({"user": self._user(user_id), "nick": None, "avatar": None, "banner": None, "roles": member["roles"],
                            "joined_at": member["joined_at"], "premium_since": None, "pending": False, "flags": 0,
                            "communication_disabled_until": None, "mute": False, "deaf": False})

    def _put_role(self, request, **ids):
        return self._change_role(request, ids, add=True)

    def _delete_role(self, request, **ids):
        return self._change_role(request, ids, add=False)

    def _change_role(self, request, ids, *, add):
        reason = unquote(request.headers.get("x-audit-log-reason") or "") or None
        if reason and len(reason) > 512:
            raise form_error("reason", "BASE_TYPE_MAX_LENGTH", "Must be 512 or fewer in length.")
        self.world.bot_changes_role((ids["guild_id"], ids["user_id"], ids["role_id"]), add=add, reason=reason)
        return Answer(204)

    def _user(self, user_id):
        user = self.state["users"][user_id]
        return {"id": user_id, "username": user["username"], "global_name": user["global_name"], "avatar": None,
                "discriminator": "0", "public_flags": 0, "flags": 0, "bot": user["bot"], "banner": None, "accent_color": None,
                "avatar_decoration_data": None, "collectibles": None, "primary_guild": None}

    @staticmethod
    def _roles(guild):
        return [{"id": role_id, "name": role["name"], "permissions": role["permissions"], "position": role["position"],
                 "color": role["color"], "colors": {"primary_color": role["color"], "secondary_color": None, "tertiary_color": None},
                 "hoist": role["hoist"], "managed": role["managed"], "mentionable": role["mentionable"], "icon": None,
                 "unicode_emoji": None, "flags": 0, **({"tags": role["tags"]} if role["tags"] else {})}
                for role_id, role in guild["roles"].items()]


GUILD_DEFAULTS = {
    "icon": None, "description": None, "home_header": None, "splash": None, "discovery_splash": None, "features": [],
    "banner": None, "application_id": None, "region": "deprecated", "afk_channel_id": None, "afk_timeout": 300,
    "system_channel_id": None, "system_channel_flags": 0, "widget_enabled": False, "widget_channel_id": None,
    "verification_level": 0, "default_message_notifications": 0, "mfa_level": 0, "explicit_content_filter": 0,
    "max_presences": None, "max_members": 500000, "max_stage_video_channel_users": 50, "max_video_channel_users": 25,
    "vanity_url_code": None, "premium_tier": 0, "premium_subscription_count": 0, "preferred_locale": "en-US",
    "rules_channel_id": None, "safety_alerts_channel_id": None, "public_updates_channel_id": None,
    "premium_progress_bar_enabled": False, "nsfw": False, "nsfw_level": 0, "emojis": [], "stickers": [], "incidents_data": None}


def error_answer(error):
    """Discord's JSON for an ApiError."""
    body = {"message": error.message, "code": error.code, **({"errors": error.errors} if error.errors else {})}
    return json_answer(body, error.status)


def discord_time(epoch):
    """An instant as Discord writes it: ISO-8601 with microseconds and +00:00."""
    return datetime.fromtimestamp(epoch, timezone.utc).isoformat(timespec="microseconds")
