"""Erase: what is still paid is cancelled first or named, then every session ends and each membership is sent to be erased.

The workers do the rest (chalicelib/anonymise.py): they take what we granted, and when Discord shows none of it any more they
anonymise what is kept. Pressing again at any time goes on.
"""
from chalicelib import cancel, ports, problem
from chalicelib.domain import ids
from chalicelib.domain import plan as rules
from chalicelib.domain.offers import Server
from chalicelib.gateways import processors, queues
from chalicelib.problem import Problem
from chalicelib.store import members, servers, sessions


def erase(*, user, secret, cancel_subscriptions, confirm, deadline):
    """Nothing of this member's is paid any more, they are signed out everywhere, and their data is being erased.

    Raises Problem 400, 409 (what is still paid or would be lost, or cannot be cancelled because its account is disconnected, and
    what to do), and 503 when a cancellation is not confirmed or nothing could be sent: nothing is erased then, and pressing again
    goes on. Nothing is cancelled before everything is known to be cancellable: that cannot be taken back.
    """
    if confirm is not True or not isinstance(cancel_subscriptions, bool):
        raise problem.bad_request("confirm must be true, and cancel_subscriptions true or false: this cannot be undone.")
    rows = members.of_user(user)
    known = servers.read_many([row.server for row in rows], accounts={sub.account for row in rows for sub in row.subs.values()} - {ids.OPERATOR})
    kept = [(row, known[row.server][0] or Server(row.server, row.server), sub) for row in rows for sub in row.subs.values()]
    live = [one for one in kept if not one[2].terminal and not ids.is_purchase(one[2].key)]
    if not cancel_subscriptions and (lost := live + [one for one in kept if _for_good(*one)]):
        raise _still_paid(lost)
    if stuck := [(row, server, sub) for row, server, sub in live if sub.account in server.disconnected]:
        raise _stuck(stuck)
    details = {"actor": f"member:{user}", "reason": "", "comment": ""}
    for row, _, sub in live:  # whatever the offers say: who wants to be erased keeps nothing anyway
        cancel.settled(cancel.Ask(cancel.CANCEL_NOW, row, sub.key, details), deadline)
    try:
        queues.send_all(queues.MEMBERS, [({"user": user, "server": row.server, "cause": "member:erase", "erase": True,
                                           "asked": ports.now()}, row.server) for row in rows])
    except queues.NotSent:
        raise problem.try_later("Our queue") from None
    # A crash before this leaves somebody signed in of whom soon nothing is left; pressing again ends that too.
    sessions.end_all(user)
    sessions.end(secret=secret)
    return {"text": "You are signed out everywhere. Your roles are being removed and your data is being erased; it takes a few seconds, "
                    "or longer while Discord cannot be asked."}


def _for_good(row, server, sub):
    """True for what is charged no more and still gives something here."""
    return (ids.is_purchase(sub.key) or sub.terminal) and bool(rules.wanted([sub], row.holds.values(), server, ports.now()))


def _still_paid(lost):
    return Problem(409, "still-paid", "Something is still paid", f"You still have: {_named(lost)}.",
                   "Cancel the subscriptions first and wait until they have ended, or ask for everything to be ended at once with it; nothing "
                   "is refunded, and what you bought for good is lost.")


def _stuck(stuck):
    where = " or ".join(sorted({processors.name(sub.key) for _, _, sub in stuck}))
    return Problem(409, "account-disconnected", "Something cannot be cancelled here", f"The {where} account is not connected for: {_named(stuck)}. "
                   "Nothing was cancelled and nothing erased.",
                   f"Ask the server's owner: they can cancel it at {where}, or connect the account again.")


def _named(found):
    return ", ".join(_offer(sub, server) for _, server, sub in found)


def _offer(sub, server):
    bought = next((b for item in sub.items if (b := server.bought(sub, item))), None)
    return f"{bought[0].name if bought else 'a subscription'} in {server.name}"
