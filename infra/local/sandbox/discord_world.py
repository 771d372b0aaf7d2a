"""What Discord knows in the sandbox: users, guilds, who is in them and who holds which role, and the rules of changing it."""
import re

MANAGE_ROLES, ADMINISTRATOR = 1 << 28, 1 << 3
BOT_PERMISSIONS = MANAGE_ROLES | 1  # what an invitation of the bot asks for: manage roles, create invites
MEMBER_ROLE_UPDATE = 25  # audit log action type


class ApiError(Exception):
    """One of Discord's JSON errors; `code` is what clients act on, `errors` the details of a form error."""

    def __init__(self, status, code, message, errors=None):
        super().__init__(message)
        self.status, self.code, self.message, self.errors = status, code, message, errors


def unknown(code, what):
    """The 404 for something that does not exist."""
    return ApiError(404, code, f"Unknown {what}")


def form_error(field, code, message):
    """The 400 for one field that cannot be read."""
    return ApiError(400, 50035, "Invalid Form Body", {field: {"_errors": [{"code": code, "message": message}]}})


def check_snowflake(field, value):
    """`value` if it is a Discord id: decimal digits that fit 64 bits. ApiError 50035 otherwise."""
    if not re.fullmatch(r"0|[1-9][0-9]{0,19}", value) or int(value) >= 1 << 64:
        raise form_error(field, "NUMBER_TYPE_COERCE", f'Value "{value}" is not snowflake.')
    return value


class World:
    """All of it as plain JSON data in `state`, so that it can be kept in a file. Ids are texts."""

    def __init__(self, state, *, bot_id, now):
        self.state, self.bot_id, self._now = state, bot_id, now
        for part in ("users", "guilds"):
            state.setdefault(part, {})
        self.put_user(bot_id, {"username": "rolekeep", "global_name": None, "bot": True})

    # Users

    def put_user(self, user_id, changes):
        """The user exists and has what `changes` says: username, global_name, bot."""
        fresh = {"username": f"user{user_id[-4:]}", "global_name": None, "bot": False}
        user = self.state["users"].setdefault(user_id, fresh)
        user.update({k: v for k, v in changes.items() if k in fresh})
        return user

    def people(self):
        """[(id, user)] of everybody who is not a bot, in order of creation."""
        return [(i, u) for i, u in self.state["users"].items() if not u["bot"]]

    # Guilds, as seen through the bot

    def guild(self, guild_id):
        """The guild. ApiError 10004 when there is none."""
        if guild_id not in self.state["guilds"]:
            raise unknown(10004, "Guild")
        return self.state["guilds"][guild_id]

    def bots_guild(self, guild_id):
        """The guild, for the bot. ApiError 50001 when the bot is not in it."""
        guild = self.guild(guild_id)
        if self.bot_id not in guild["members"]:
            raise ApiError(403, 50001, "Missing Access")
        return guild

    def member(self, guild, user_id):
        """The membership of a user. ApiError 10013 for no such user, 10007 for one who is not in the guild."""
        if user_id not in self.state["users"]:
            raise unknown(10013, "User")
        if user_id not in guild["members"]:
            raise unknown(10007, "Member")
        return guild["members"][user_id]

    def top_position(self, guild, user_id):
        """The position of a member's highest role; 0 (that of @everyone) without any."""
        return max((guild["roles"][r]["position"] for r in guild["members"][user_id]["roles"]), default=0)

    def permissions(self, guild_id, guild, user_id):
        """The member's permission bits in the guild, from @everyone and the member's roles."""
        if guild["owner_id"] == user_id:
            return ADMINISTRATOR | MANAGE_ROLES
        bits = int(guild["roles"][guild_id]["permissions"])
        for role_id in guild["members"][user_id]["roles"]:
            bits |= int(guild["roles"][role_id]["permissions"])
        return bits

    def bot_changes_role(self, ids, *, add, reason):
        """The member of `ids` (guild, user, role) holds the role (`add`) or does not; refused as Discord refuses a bot."""
        guild_id, user_id, role_id = ids
        guild = self.bots_guild(guild_id)
        missing = ApiError(403, 50013, "Missing Permissions")
        if not self.permissions(guild_id, guild, self.bot_id) & (MANAGE_ROLES | ADMINISTRATOR):
            raise missing
        self.member(guild, user_id)
        if role_id not in guild["roles"] or role_id == guild_id:
            raise unknown(10011, "Role")
        role = guild["roles"][role_id]
        if role["managed"] or role["position"] >= self.top_position(guild, self.bot_id):
            raise missing
        self.set_role(ids, add=add, actor=self.bot_id, reason=reason)

    def set_role(self, ids, *, add, actor, reason=None):
        """The member holds the role or does not, whoever did it; a real change is in the guild's audit log."""
        guild_id, user_id, role_id = ids
        guild = self.guild(guild_id)
        held = self.member(guild, user_id)["roles"]
        if role_id not in guild["roles"] or role_id == guild_id:
            raise unknown(10011, "Role")
        if add == (role_id in held):
            return
        held.append(role_id) if add else held.remove(role_id)
        guild["audit"].append({
            "at": self._now(), "action_type": MEMBER_ROLE_UPDATE, "user_id": actor, "target_id": user_id, "reason": reason,
            "changes": [{"key": "$add" if add else "$remove",
                         "new_value": [{"id": role_id, "name": guild["roles"][role_id]["name"]}]}]})
        del guild["audit"][:-5000]

    # What people do to a guild

    def put_guild(self, guild_id, changes):
        """The guild exists with @everyone, the bot in it when it is new, and the roles and names of `changes`."""
        fresh = guild_id not in self.state["guilds"]
        if fresh:
            self.state["guilds"][guild_id] = {"name": "Guild", "owner_id": changes.get("owner_id") or "1", "roles": {},
                                              "members": {}, "bans": {}, "audit": [], "created": self._now()}
        guild = self.guild(guild_id)
        guild.update({k: v for k, v in changes.items() if k in ("name", "owner_id")})
        self.put_user(guild["owner_id"], {})
        if fresh:
            self.put_role(guild_id, guild_id, {"name": "@everyone", "position": 0})
            self.join(guild_id, guild["owner_id"])
        for role in changes.get("roles", []):
            self.put_role(guild_id, role["id"], role)
        if fresh:
            self.put_bot(guild_id)
        return guild

    def put_role(self, guild_id, role_id, changes):
        """The role exists and has what `changes` says; a new one stands above all others but below the bot's own."""
        roles = self.guild(guild_id)["roles"]
        if role_id not in roles:
            bot_role = roles.get(bot_role_id(guild_id))
            place = bot_role["position"] if bot_role else len(roles)
            if bot_role and "position" not in changes:
                bot_role["position"] += 1
            roles[role_id] = {"name": "new role", "position": place, "permissions": "0", "color": 0, "hoist": False,
                              "managed": False, "mentionable": False, "tags": None}
        roles[role_id].update({k: v for k, v in changes.items() if k in roles[role_id]})
        roles[role_id]["permissions"] = str(roles[role_id]["permissions"])
        return roles[role_id]

    def delete_role(self, guild_id, role_id):
        """Nobody holds the role, and it is gone."""
        guild = self.guild(guild_id)
        if role_id not in guild["roles"] or role_id == guild_id:
            raise unknown(10011, "Role")
        del guild["roles"][role_id]
        for member in guild["members"].values():
            member["roles"] = [r for r in member["roles"] if r != role_id]

    def put_bot(self, guild_id, *, permissions=BOT_PERMISSIONS, position=None):
        """The bot is in the guild with its managed role, which has `permissions` and stands highest or at `position`."""
        guild = self.guild(guild_id)
        role_id = bot_role_id(guild_id)
        highest = 1 + max(r["position"] for i, r in guild["roles"].items() if i != role_id)
        self.put_role(guild_id, role_id, {
            "name": "Rolekeep", "managed": True, "tags": {"bot_id": self.bot_id}, "permissions": permissions,
            "position": highest if position is None else position})
        self.join(guild_id, self.bot_id)["roles"] = [role_id]

    def kick_bot(self, guild_id):
        """The bot and its managed role are gone from the guild."""
        self.leave(guild_id, self.bot_id)
        self.guild(guild_id)["roles"].pop(bot_role_id(guild_id), None)

    def join(self, guild_id, user_id):
        """The user is in the guild, without roles if new there. ApiError 40007 for one who is banned."""
        guild = self.guild(guild_id)
        if user_id in guild["bans"]:
            raise ApiError(403, 40007, "The user is banned from this guild")
        self.put_user(user_id, {})
        return guild["members"].setdefault(user_id, {"joined_at": self._now(), "roles": []})

    def leave(self, guild_id, user_id):
        """The user is not in the guild; the roles went with the membership."""
        self.guild(guild_id)["members"].pop(user_id, None)

    def ban(self, guild_id, user_id):
        """The user is out and cannot join."""
        self.leave(guild_id, user_id)
        self.guild(guild_id)["bans"][user_id] = {"at": self._now()}


def bot_role_id(guild_id):
    """The id of the bot's own managed role in a guild: made up, but always the same."""
    return str(int(guild_id) + 1)
