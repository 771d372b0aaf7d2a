"""The pages that people see of the Discord sandbox: the consent page and who holds which role."""
from html import escape

STYLE = """<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif } body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 } th, td { border: 1px solid #8886; padding: .3rem .7rem; text-align: left }
.note { border-left: 4px solid #5865f2; padding: .3rem .8rem; background: #5865f218 } form { display: inline } button { font: inherit }
label { display: block; padding: .2rem 0 } small { opacity: .75 }
</style>"""
NOTE = '<p class="note">This is the Discord <b>sandbox</b>. Nothing here reaches Discord.</p>'


def _page(title, body, *, head=""):
    return (f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
            f'<meta name="viewport" content="width=device-width">{head}{STYLE}</head><body>{NOTE}{body}</body></html>')


def shown_name(user):
    """The name people see: the display name, else the user name."""
    return user["global_name"] or user["username"]


def problem(text):
    """A page that says why there is nothing to consent to."""
    return _page("Error", f"<h1>{escape(text)}</h1><p>Go back to the app and try again.</p>")


def consent(wish, app_name, people):
    """The consent page: a plain form that posts back all of `wish` with `user_id` and `decision` (authorize or cancel)."""
    hidden = "".join(f'<input type="hidden" name="{escape(k)}" value="{escape(v)}">' for k, v in wish.items()
                     if k not in ("user_id", "decision"))
    choices = "".join(
        f'<label><input type="radio" name="user_id" value="{escape(i)}"{" checked" if n == 0 else ""}> {escape(shown_name(u))} '
        f'<small>@{escape(u["username"])} · {escape(i)}</small></label>' for n, (i, u) in enumerate(people))
    return _page("Authorize", f"""<h1>{escape(app_name)} wants to access your Discord account</h1>
<p>It asks for: <b>{escape(wish.get("scope", ""))}</b>. You go back to {escape(wish["redirect_uri"])}.</p>
<form method="post" action="/oauth2/authorize">{hidden}<fieldset><legend>Which user are you?</legend>{choices}</fieldset>
<p><button name="decision" value="authorize">Authorize</button> <button name="decision" value="cancel">Cancel</button></p></form>""")


def overview(guilds, users, clock_text):
    """Who holds which role in every guild, with buttons to leave, come back, and give or take a role by hand."""
    body = "".join(_guild(guild, users) for guild in guilds) or "<p>There is no guild yet.</p>"
    return _page("Discord sandbox", f"<h1>Who holds which role</h1><p>Sandbox time {escape(clock_text)} · refreshes every 5 s</p>{body}",
                 head='<meta http-equiv="refresh" content="5">')


def _guild(guild, users):
    roles = sorted((r for r in guild["roles"] if r["id"] != guild["id"]), key=lambda r: -r["position"])
    head = "".join(f'<th scope="col">{escape(r["name"])}{" <small>(managed)</small>" if r["managed"] else ""}</th>' for r in roles)
    rows = "".join(_member(guild["id"], member, roles, users) for member in guild["members"])
    inside = {m["id"] for m in guild["members"]}
    outside = "".join(f"<li>{_button(guild['id'], i, 'join', 'Join')} {escape(shown_name(u))}</li>"
                      for i, u in users.items() if i not in inside and not u["bot"])
    bot = "" if guild["bot"]["in_guild"] else "<p><b>The bot is not in this guild.</b></p>"
    log = "".join(f"<li>{_audit(entry, users)}</li>" for entry in reversed(guild["audit"][-10:]))
    return f"""<section><h2>{escape(guild["name"])} <small>{escape(guild["id"])}</small></h2>{bot}
<table><thead><tr><th scope="col">Member</th>{head}<th></th></tr></thead><tbody>{rows}</tbody></table>
{f"<p>Not in this guild:</p><ul>{outside}</ul>" if outside else ""}{f"<p>Latest changes:</p><ol>{log}</ol>" if log else ""}</section>"""


def _member(guild_id, member, roles, users):
    held, user = set(member["roles"]), users[member["id"]]
    cells = "".join(
        f'<td>{"holds" if r["id"] in held else "–"}'
        f'{"" if r["managed"] else " " + _button(guild_id, member["id"], "take" if r["id"] in held else "give", "take" if r["id"] in held else "give", r["id"])}'
        "</td>" for r in roles)
    leave = "" if user["bot"] else _button(guild_id, member["id"], "leave", "Leave")
    return f'<tr><th scope="row">{escape(shown_name(user))}{" <small>bot</small>" if user["bot"] else ""}</th>{cells}<td>{leave}</td></tr>'


def _button(guild_id, user_id, do, text, role_id=""):
    fields = {"guild_id": guild_id, "user_id": user_id, "role_id": role_id, "do": do}
    hidden = "".join(f'<input type="hidden" name="{k}" value="{escape(v)}">' for k, v in fields.items())
    return f'<form method="post" action="/">{hidden}<button>{escape(text)}</button></form>'


def _audit(entry, users):
    change = entry["changes"][0]
    verb = "was given" if change["key"] == "$add" else "lost"
    names = [shown_name(users[i]) if i in users else i for i in (entry["target_id"], entry["user_id"])]
    why = f" — {escape(entry['reason'])}" if entry["reason"] else ""
    return f"{escape(entry['at'])}: {escape(names[0])} {verb} {escape(change['new_value'][0]['name'])} by {escape(names[1])}{why}"
