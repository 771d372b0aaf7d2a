"""The control API of the Discord sandbox: what people and owners do in Discord, by request instead of by hand."""
import re

from .discord_world import ApiError, BOT_PERMISSIONS, check_snowflake
from .http import SHARED_CONTROLS, Answer, BadControl, json_answer

GUILD = r"/_sandbox/guilds/(?P<guild_id>\d+)"
ROUTES = [  # (method, path, name of the method here); GET and PUT answer with the view of what they touched
    ("GET", r"/_sandbox/", "_index"),
    ("GET", r"/_sandbox/guilds", "_list_guilds"),
    ("GET", GUILD, "_show_guild"), ("PUT", GUILD, "_put_guild"), ("DELETE", GUILD, "_delete_guild"),
    ("PUT", GUILD + r"/members/(?P<user_id>\d+)", "_join"), ("DELETE", GUILD + r"/members/(?P<user_id>\d+)", "_leave"),
    ("PUT", GUILD + r"/members/(?P<user_id>\d+)/roles/(?P<role_id>\d+)", "_give"),
    ("DELETE", GUILD + r"/members/(?P<user_id>\d+)/roles/(?P<role_id>\d+)", "_take"),
    ("PUT", GUILD + r"/bans/(?P<user_id>\d+)", "_ban"), ("DELETE", GUILD + r"/bans/(?P<user_id>\d+)", "_unban"),
    ("PUT", GUILD + r"/roles/(?P<role_id>\d+)", "_put_role"), ("PATCH", GUILD + r"/roles/(?P<role_id>\d+)", "_edit_role"),
    ("DELETE", GUILD + r"/roles/(?P<role_id>\d+)", "_delete_role"),
    ("PUT", GUILD + r"/bot", "_put_bot"), ("DELETE", GUILD + r"/bot", "_kick_bot"),
    ("GET", r"/_sandbox/users", "_list_users"), ("PUT", r"/_sandbox/users/(?P<user_id>\d+)", "_put_user"),
    ("GET", r"/_sandbox/audit-log/(?P<guild_id>\d+)", "_audit_log"),
    ("PUT", r"/_sandbox/bot-token", "_reset_bot_token"),
    ("GET", r"/_sandbox/limits", "_show_limits"), ("PUT", r"/_sandbox/limits", "_put_limits"),
    ("PUT", r"/_sandbox/ban", "_begin_ban"), ("DELETE", r"/_sandbox/ban", "_end_ban"),
]


class Control:
    """Answers /_sandbox/... of one DiscordSandbox."""

    def __init__(self, sandbox):
        self._sandbox, self._world, self._limits = sandbox, sandbox.world, sandbox.limits

    def answer(self, request):
        """The answer to a control request; 404 for one that does not exist, 400 with the reason for one that is wrong."""
        for method, pattern, name in ROUTES:
            match = re.fullmatch(pattern, request.path)
            if match and method == request.method:
                try:
                    for field, value in match.groupdict().items():
                        check_snowflake(field, value)
                    return getattr(self, name)(request.json(), **match.groupdict())
                except ApiError as error:
                    return json_answer({"error": error.message, "code": error.code}, error.status)
                except (KeyError, TypeError, ValueError) as problem:
                    raise BadControl(f"cannot be understood: {problem!r}") from None
        return json_answer({"error": "there is no such control"}, 404)

    def view(self, guild_id):
        """The guild as JSON: its roles with their holders, its members with their roles, the bot, the bans, the audit log."""
        guild, bot_id = self._world.guild(guild_id), self._world.bot_id
        inside = bot_id in guild["members"]
        return {
            "id": guild_id, "name": guild["name"], "owner_id": guild["owner_id"],
            "bot": {"id": bot_id, "in_guild": inside,
                    "top_position": self._world.top_position(guild, bot_id) if inside else None,
                    "permissions": str(self._world.permissions(guild_id, guild, bot_id)) if inside else None},
            "roles": [{"id": i, **r, "holders": [u for u, m in guild["members"].items() if i in m["roles"]]}
                      for i, r in guild["roles"].items()],
            "members": [{"id": i, "username": self._world.state["users"][i]["username"],
                         "name": self._world.state["users"][i]["global_name"], **m} for i, m in guild["members"].items()],
            "bans": list(guild["bans"]), "audit": guild["audit"]}

    def by_hand(self, form):
        """A button of the overview page was pressed: join, leave, give or take. Wrong or late presses change nothing."""
        ids = form.get("guild_id", ""), form.get("user_id", ""), form.get("role_id", "")
        try:
            match form.get("do"):
                case "join":
                    self._world.join(*ids[:2])
                case "leave":
                    self._world.leave(*ids[:2])
                case "give" | "take" as do:
                    self._world.set_role(ids, add=do == "give", actor=self._world.guild(ids[0])["owner_id"])
        except ApiError:
            pass

    def _index(self, wish):
        """Which control calls there are."""
        own = [f"{method} " + re.sub(r"\(\?P<(\w+)>[^)]*\)", r"{\1}", pattern.removeprefix("/_sandbox/")) for method, pattern, _ in ROUTES]
        return json_answer({"calls": [*SHARED_CONTROLS, *own]})

    def _list_guilds(self, wish):
        return json_answer({"guilds": [{"id": i, "name": g["name"]} for i, g in self._world.state["guilds"].items()]})

    def _show_guild(self, wish, guild_id):
        return json_answer(self.view(guild_id))

    def _put_guild(self, wish, guild_id):
        self._world.put_guild(guild_id, wish)
        return self._show_guild(wish, guild_id)

    def _delete_guild(self, wish, guild_id):
        self._world.guild(guild_id)
        del self._world.state["guilds"][guild_id]
        return Answer(204)

    def _join(self, wish, guild_id, user_id):
        self._world.join(guild_id, user_id)
        return self._show_guild(wish, guild_id)

    def _leave(self, wish, guild_id, user_id):
        self._world.leave(guild_id, user_id)
        return Answer(204)

    def _give(self, wish, **ids):
        return self._set_role(ids, add=True)

    def _take(self, wish, **ids):
        return self._set_role(ids, add=False)

    def _set_role(self, ids, *, add):
        """By hand of the guild's owner, who may do what the bot may not."""
        owner = self._world.guild(ids["guild_id"])["owner_id"]
        self._world.set_role((ids["guild_id"], ids["user_id"], ids["role_id"]), add=add, actor=owner)
        return Answer(204)

    def _ban(self, wish, guild_id, user_id):
        self._world.ban(guild_id, user_id)
        return Answer(204)

    def _unban(self, wish, guild_id, user_id):
        self._world.guild(guild_id)["bans"].pop(user_id, None)
        return Answer(204)

    def _put_role(self, wish, guild_id, role_id):
        self._world.put_role(guild_id, role_id, wish)
        return self._show_guild(wish, guild_id)

    def _edit_role(self, wish, guild_id, role_id):
        if role_id not in self._world.guild(guild_id)["roles"]:
            raise ApiError(404, 10011, "Unknown Role")
        return self._put_role(wish, guild_id, role_id)

    def _delete_role(self, wish, guild_id, role_id):
        self._world.delete_role(guild_id, role_id)
        return Answer(204)

    def _put_bot(self, wish, guild_id):
        self._world.put_bot(guild_id, permissions=int(wish.get("permissions", BOT_PERMISSIONS)), position=wish.get("position"))
        return self._show_guild(wish, guild_id)

    def _kick_bot(self, wish, guild_id):
        self._world.kick_bot(guild_id)
        return Answer(204)

    def _list_users(self, wish):
        return json_answer({"users": [{"id": i, **u} for i, u in self._world.state["users"].items()]})

    def _put_user(self, wish, user_id):
        return json_answer({"id": user_id, **self._world.put_user(user_id, wish)})

    def _audit_log(self, wish, guild_id):
        return json_answer({"audit_log_entries": self._world.guild(guild_id)["audit"]})

    def _reset_bot_token(self, wish):
        """The bot has a new token; calls with the old one are 401 from now on."""
        self._sandbox.app["bot_token"] = self._sandbox.state["app"]["bot_token"] = str(wish["bot_token"])
        return Answer(204)

    def _show_limits(self, wish):
        return json_answer({"limits": self._limits.limits, "invalid_requests": self._limits.invalid(), "ban": self._limits.banned()})

    def _put_limits(self, wish):
        for name, (most, seconds) in wish.items():
            if name not in self._limits.limits:
                raise BadControl(f"there is no limit {name!r}, only {sorted(self._limits.limits)}")
            self._limits.limits[name] = (int(most), float(seconds))
        return self._show_limits(wish)

    def _begin_ban(self, wish):
        status = wish.get("status", 429)
        if status not in (403, 429):
            raise BadControl("a ban answers 403 or 429")
        self._limits.begin_ban(float(wish.get("seconds", 3600)), status=status, as_json=bool(wish.get("as_json")))
        return self._show_limits(wish)

    def _end_ban(self, wish):
        self._limits.ban = None
        return Answer(204)
