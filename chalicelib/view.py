"""How a membership is shown: pure, from stored facts, at a given instant."""
from dataclasses import replace
from datetime import UTC, datetime

from chalicelib.domain import money as amounts
from chalicelib.domain import plan as rules
from chalicelib.domain.holds import CHARGED_BACK, DISPUTED, REFUNDED, held
from chalicelib.domain.ids import PAYPAL, STRIPE, is_purchase
from chalicelib.domain.subscription import BOUGHT, EXPIRED, FAILED, PROCESSING, RUNNING_OUT, SUSPENDED, UNREAD, access

# code: (what is so, and what the member can do about it, if anything)
WHY = {
    "not_in_server": ("You are not in this Discord server.", "Join the server, then press “Restore my roles”."),
    "missing_permissions": ("The bot is not allowed to change this role: its own role must be above it, and it needs "
                            "“Manage Roles”. It is tried again by itself.", "Ask the server's owner to mend this."),
    "role_deleted": ("This role no longer exists in the server.", "Ask the server's owner to mend the offer."),
    "banned_member": ("You are banned from this server.", "Ask the server's owner; you can still cancel here."),
    "discord_unavailable": ("Discord did not answer. It is tried again by itself.", ""),
    "rate_limited": ("Discord asked us to slow down. It is tried again by itself.", ""),
    "no_access": ("The bot cannot reach this server.", "Ask the server's owner to add the bot again."),
    "banned": ("Discord does not answer our bot for now. It is tried again by itself.", ""),
    "bad_token": ("Discord does not accept our bot's credentials. The operator has been told.", ""),
    "guarded": ("Unusually many roles would end in this server at once, so none of them is taken before somebody has checked. You keep this "
                "role meanwhile.", ""),
    "strips_off": ("Taking roles away is switched off for now by the operator. You keep this role meanwhile.", ""),
    "grants_off": ("Giving roles is switched off for now by the operator. What you have paid for comes by itself once it is on again, and until "
                   "then nothing of yours is taken for it.", ""),
    "working": ("Your role is being set. It takes a few seconds.", ""),
    "ending": ("Your role is being removed. It takes a few seconds.", ""),
}
# Why nothing can be done here with a subscription: Stripe lets us neither read nor change what it is paid through.
def _disconnected(sub):
    name = {STRIPE: "Stripe", PAYPAL: "PayPal"}[sub.processor]
    return {
        "code": "account_disconnected",
        "text": f"The server's owner has disconnected the {name} account that this is paid through, so it cannot be shown up to date, managed or cancelled here. "
                "Your roles stay as they are.",
        "next": f"Ask the server's owner: they can cancel it at {name}, or connect the account again."}


_OTHER = ("Discord refused this role. It is tried again by itself.", "Ask the server's owner.")

YOU, OWNER, OPERATOR, NOBODY = "you", "owner", "operator", "nobody"
# code: (who must act, what exactly mends it, for the owner and the operator), beside WHY for the member
FIX = {
    "not_in_server": (YOU, "Nothing is wrong in the server. The member joins it with this Discord account (another one of theirs does not count); the role "
                           "comes within a day, or at once by “Restore my roles”."),
    "missing_permissions": (OWNER, "In Discord, Server Settings, Roles: drag the bot's own role above “{role}”, and give it “Manage Roles”. A role that Discord or "
                                   "another app manages can be given by nobody: sell another one. “Restore my roles” tries at once."),
    "role_deleted": (OWNER, "The role {role_id} is gone in Discord. Make a new one and put its id into the offers in place of this one; members get it by themselves."),
    "banned_member": (OWNER, "In Discord, Server Settings, Bans: lift the ban; or refund the member and cancel what they pay."),
    "discord_unavailable": (NOBODY, "Nothing: Discord failed, and is asked again. Should it last, see discordstatus.com."),
    "rate_limited": (NOBODY, "Nothing: Discord told us how long to wait, and everybody waits."),
    "no_access": (OWNER, "Add the bot to the server again, with “Manage Roles”, and drag its role above those that are sold. It is asked once an hour."),
    "banned": (OPERATOR, "Discord has blocked this address. One worker asks every ten minutes, and all go on when it is over: restart nothing, call nothing by "
                         "hand; look in the logs for what was refused so often, or leave by another address."),
    "bad_token": (OPERATOR, "Put the application's present bot token into DISCORD_BOT_TOKEN and deploy: everything goes on by itself."),
    "guarded": (OPERATOR, "Compare the server's offers with what they were: a mapping may be gone. If they are right: `operate guard lift {server}`."),
    "strips_off": (OPERATOR, "`operate switch strips on`, when whatever it was switched off for is over."),
    "grants_off": (OPERATOR, "`operate switch grants on`, when whatever it was switched off for is over."),
    "working": (NOBODY, "Nothing: it is under way. Should it last longer than two minutes: `operate dlq list`, and the logs."),
    "ending": (NOBODY, "Nothing: it is under way. Should it last longer than two minutes: `operate dlq list`, and the logs."),
}
_OTHER_FIX = (OPERATOR, "Discord answered {code}, which nobody here knows: look it up at discord.com/developers/docs/topics/opcodes-and-status-codes.")


def why_not(code):
    """(what is so, what the member can do) of a code of ours."""
    return WHY.get(code, _OTHER)


def mends(code, **names):
    """(who, what): what exactly mends it. `names`: role, role_id, server."""
    who, what = FIX.get(code, _OTHER_FIX)
    return who, what.format_map({"code": code, **names})


def iso(instant):
    """An instant as ISO 8601 in UTC, or None."""
    return None if instant is None else datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def words(instant):
    """An instant as people read it, in UTC."""
    return datetime.fromtimestamp(instant, UTC).strftime("%-d %B %Y, %H:%M UTC")


def membership(row, server, closed_why, *, now):
    """One server of the profile: its subscriptions, and every role with its real state."""
    wants = rules.wanted(row.subs.values(), row.holds.values(), server, now)
    following = _following(row, server, now)
    shown = [role(row, server, role_id, wants.get(role_id), closed_why, following=following.get(role_id))
             for role_id in sorted(set(wants) | {r for r, known in row.roles.items() if known.state != rules.ABSENT})]
    read = [sub.read_at for sub in row.subs.values() if sub.read_at and not _is_over(sub, now)]
    return {
        "id": row.server, "name": server.name, "checked_at": iso(row.checked_at),
        "as_of": iso(min(read) if read else row.checked_at), "roles": shown,
        "subscriptions": [subscription(sub, row, server, now=now) for sub in sorted(
            row.subs.values(), key=lambda sub: (_is_over(sub, now), -sub.read_at, sub.key))],
        "actions": ["restore"] if wants else [],
    }


def _following(row, server, now):
    """{role id: instant} from which on a subscription that has not begun yet gives the role; held back ones do not count."""
    begins = [(role, sub.starts_at) for sub in row.subs.values() if _begins_later(sub, now) for item in sub.items
              if (b := server.bought(sub, item)) and not held(row.holds.values(), sub.key, b[0], now) for role in b[0].roles]
    return dict(sorted(begins, key=lambda one: one[1], reverse=True))


def _begins_later(sub, now):
    return sub.status in ("active", "trialing") and sub.starts_at is not None and now < sub.starts_at


def role(row, server, role_id, want, closed_why, *, following=None):
    """held, pending, blocked or ending, why, and until when; `subscriptions` are the reasons it has.

    `following`: when another reason begins that is no reason yet. In time, the role stays: it has no end to be shown.
    """
    if want and want.until is not None and following is not None and following <= want.until:
        want = replace(want, until=None, renews=True, grace=False)
    known = row.roles.get(role_id, rules.Role())
    state, why = _state(known, want, closed_why)
    text, step = why_not(why) if why else ("", "")
    return {
        "id": role_id, "name": server.role_name(role_id), "state": state,
        "why": {"code": why, "text": text, "next": step, "retry_at": iso(known.block.next) if known.block else None}
        if why else None,
        "until": iso(want.until) if want else None, "renews": bool(want) and want.renews,
        "grace": bool(want) and want.grace,
        "subscriptions": [key.rsplit(":", 1)[1] for key in want.sources] if want else [],
        "actions": ["restore"] if want and state != "held" else [],
    }


def _state(known, want, closed_why):
    blocked = known.block.why if known.block else None
    if want is None:
        return "ending", blocked or closed_why or "ending"
    if known.state == rules.HELD:
        return "held", None
    if blocked and known.block.verb == rules.GRANT:
        return "blocked", blocked
    return ("blocked", closed_why) if closed_why else ("pending", "working")


def subscription(sub, row, server, *, now):
    """A subscription or purchase in the same form for every processor, with its exact end or renewal instant and what can be done."""
    bought = next((b for item in sub.items if (b := server.bought(sub, item))), None)
    ends = meaning(sub, row.holds.values(), server, now=now)
    can = actions(sub, ends["state"]) + _at_once(sub, server, now)
    if sub.status == RUNNING_OUT and bought and _goes_on(sub, bought[0], row, server, now):
        can = [one for one in can if one != "undo"]
    return {
        "id": sub.id, "processor": sub.processor, "kind": "purchase" if is_purchase(sub.key) else "subscription", "status": sub.status,
        "offer": {"id": bought[0].id, "name": bought[0].name} if bought else None,
        "price": bought[1].shown() if bought else None,
        "role_ids": sorted({r for item in sub.items if (b := server.bought(sub, item)) for r in b[0].roles}),
        "cancel_scheduled": sub.scheduled,
        **{name: iso(value) if name.endswith(("_at", "_until")) else value for name, value in ends.items()},
        "ended_at": iso(sub.ended_at), "as_of": iso(sub.read_at) if sub.read_at else None,
        **({"why": _disconnected(sub), "actions": []} if sub.account in server.disconnected and not sub.terminal
           else {"why": None, "actions": can}),
    }


def _goes_on(sub, offer, row, server, now):
    """True when another subscription to this offer takes over from one that PayPal has ended: it is undone already."""
    return any(_begins_later(one, now) and any((b := server.bought(one, item)) and b[0].id == offer.id for item in one.items)
               for one in row.subs.values() if one.key != sub.key)


def _is_over(sub, now):
    """True when nothing is charged any more and nothing that was paid runs on."""
    return sub.ended or sub.status == RUNNING_OUT and now >= sub.cancel_at


def _at_once(sub, server, now):
    """cancel_now, for what is alive and may end at once; also when its end is scheduled already."""
    may = not _is_over(sub, now) and server.ends_at_once(sub) and not is_purchase(sub.key)
    return ["cancel_now"] if may else []


def meaning(sub, holds, server, *, now):
    """{state, text, begins_at, renews_at, ends_at, access_until, paid_until}: one meaning, worked out by the same rules that the sweep uses."""
    nothing = {"begins_at": None, "renews_at": None, "ends_at": None, "access_until": None, "paid_until": None}
    if sub.status in _WORDS:
        state, text = _WORDS[sub.status]
        return nothing | {"state": state, "text": text}
    if sub.status == "canceled":
        return nothing | {"state": "ended", "text": f"Ended on {words(sub.ended_at)}." if sub.ended_at else "Ended."}
    if why := _on_hold(sub, holds, server, now):
        return nothing | {"state": "on_hold", "text": _HELD[why], "ends_at": sub.scheduled_end, "renews_at": _next_charge(sub)}
    given = [(item, access(sub, item, terms=server.terms(sub, item), now=now)) for item in sub.items]
    standing = [one for one in given if one[1].stands]
    shown = _bought if sub.status == BOUGHT else _void if sub.void else _unpaid if sub.status == "past_due" else _suspended if sub.status == SUSPENDED else _running
    return nothing | shown(sub, standing, server, now)


# status: (state, text), where nothing more is to be said
_WORDS = {
    UNREAD: ("pending", "Your payment is being confirmed."),
    PROCESSING: ("pending", "Your payment is under way. Some kinds take a few days."),
    "open": ("pending", "The payment was not made yet."),
    "incomplete": ("pending", "The first payment is not complete."),
    "incomplete_expired": ("ended", "Ended: the first payment was never completed."),
    "unpaid": ("ended", "Not paid: access has ended."),
    "paused": ("ended", "Paused: no access while it is."),
    EXPIRED: ("ended", "The payment was never made."),
    FAILED: ("ended", "The payment failed. You can buy it again."),
}
_HELD = {
    REFUNDED: "The payment was refunded, so it gives no access.",
    DISPUTED: "A dispute about the payment is open. There is no access until it is decided.",
    CHARGED_BACK: "The payment was charged back, so it gives no access.",
}


def _next_charge(sub):
    """When what is on hold is charged again, or None: it goes on unless it is cancelled, and the page must not hide that."""
    quiet = is_purchase(sub.key) or sub.scheduled or sub.void or sub.status == SUSPENDED or not sub.items
    return None if quiet else min(item.end for item in sub.items)


def _on_hold(sub, holds, server, now):
    """Why every offer that it buys is held back, or None."""
    offers = [b[0] for item in sub.items if (b := server.bought(sub, item))]
    whys = [held(holds, sub.key, offer, now) for offer in offers]
    return whys[0] if whys and all(whys) else None


def _bought(sub, standing, server, now):
    start = min((item.start for item in sub.items), default=now)
    until = None if any(a.until is None for _, a in standing) else max((a.until for _, a in standing), default=None)
    if not standing:
        return {"state": "ended", "text": f"Bought on {words(start)}. Its time is over."}
    text = f"Bought on {words(start)}. " + (f"Access until {words(until)}." if until else "It is yours for good.")
    return {"state": "active", "text": text, "ends_at": until, "access_until": until}


def _void(sub, standing, server, now):
    until = max((a.until for _, a in standing), default=None)
    if until is None:
        return {"state": "ended", "text": "Paused by the server: nothing is charged, and there is no access while it is."}
    return {"state": "ending", "text": f"Paused by the server: nothing is charged. What you have paid for lasts until {words(until)}.",
            "ends_at": sub.scheduled_end, "access_until": until}


def _unpaid(sub, standing, server, now):
    until = max((a.until if a.until is not None else item.end for item, a in standing), default=None)
    text = f"The last payment failed. You keep access until {words(until)}: update your payment method." if until else \
        "The last payment failed and the grace period is over. Update your payment method to get access back."
    return {"state": "grace" if until else "ended", "text": text, "access_until": until, "ends_at": sub.scheduled_end, "paid_until": _paid_until(sub, now)}


def _paid_until(sub, now):
    """Until when what was paid still runs while nothing more is: what a cancellation at PayPal leaves of the access. None when it is over."""
    until = sub.paid_through if sub.processor == PAYPAL else None
    return until if until is not None and now < until else None


def _suspended(sub, standing, server, now):
    until = max((a.until for _, a in standing), default=None)
    text = f"Payments are suspended at PayPal. You keep access until {words(until)}, unless they are resumed there." if until else \
        "Payments are suspended at PayPal, and there is no access while they are."
    return {"state": "grace" if until else "ended", "text": text, "access_until": until, "paid_until": _paid_until(sub, now)}


def _running(sub, standing, server, now):
    if sub.starts_at is not None and now < sub.starts_at:
        return {"state": "active", "text": f"Begins on {words(sub.starts_at)}. Nothing is charged before.", "begins_at": sub.starts_at, "renews_at": sub.starts_at}
    if sub.scheduled:
        end = sub.scheduled_end
        text = f"Ends on {words(end)}. There is no further charge." if now < end else f"Ended on {words(end)}."
        return {"state": "ending" if now < end else "ended", "text": text, "ends_at": end, "access_until": end, "paid_until": _paid_until(sub, now)}
    renews = min(item.end for item in sub.items)
    text = f"Free trial until {words(renews)}, then the first charge." if sub.status == "trialing" else f"Renews on {words(renews)}."
    if not any(server.bought(sub, item) for item in sub.items):
        text += " This plan gives no role here: the server's owner has been told."
    return {"state": "active", "text": text, "renews_at": renews, "access_until": max(item.end for item in sub.items), "paid_until": _paid_until(sub, now)}


def actions(sub, state):
    """What can be done with a subscription now; cancel, undo and restore never depend on the owner's set-up."""
    if sub.status == UNREAD or sub.ended or is_purchase(sub.key):
        return ["manage"] if sub.customer else []
    may_undo = state != "ended" and (sub.processor == STRIPE or sub.status == RUNNING_OUT)
    change = "cancel" if not sub.scheduled else "undo" if may_undo else None
    # PayPal has one page for both.
    return ["manage", *(["payment_method"] if sub.processor == STRIPE else []), *([change] if change else [])]


def money(price):
    """{amount, currency} as people read it."""
    return amounts.shown(price["amount"], price["currency"])
