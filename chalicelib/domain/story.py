"""What a person would care about in one look at a member: pure, from what was known before and what is known now.

A row of the ledger keeps it in plain values: `evidence` {key: facts of a subscription, without its customer}, `changed`
[keys], `charges` {key: facts of a refund or dispute that changed}, `why` {role: [keys of its reasons, or of what it was held
for]}, `lost` [roles held that Discord did not show].
"""
from dataclasses import replace

from chalicelib.domain.holds import Hold
from chalicelib.domain.plan import ABSENT, HELD


def changed(before, facts):
    """The freshly read subscriptions in `facts` that are not as they were known; when they were read says nothing."""
    return [sub for sub in facts if plain(sub) != plain(before[sub.key])] if facts else []


def plain(sub):
    """The subscription without what no timeline tells: when it was read or could not be, and the processor's customer."""
    return replace(sub, read_at=0, unread_since=0, customer="", charge="", troubled=False)


def changed_holds(before, asked):
    """The charges asked about in `asked` whose refunds or disputes are not as they were known; none at first is nothing new."""
    return [hold for hold in asked
            if asked_plain(hold) != asked_plain(before.get(hold.key) or Hold(hold.key, hold.reason)) and (hold.key in before or hold.troubles)]


def asked_plain(hold):
    """What a timeline tells of a charge."""
    return hold.key, hold.refunded, hold.dispute


def lost(before, after):
    """The roles that were held and that a look did not find."""
    return sorted(role for role, known in before.items() if known.state == HELD and after.get(role, known).state == ABSENT)


def evidence(subs, changes):
    """{key: facts} of every subscription that is alive or has just changed: what the decision was made from."""
    new = {sub.key for sub in changes}
    return {sub.key: {name: value for name, value in sub.facts().items() if name != "customer"}
            for sub in subs if not sub.terminal or sub.key in new}


def why(plan, wants, subs, server):
    """{role: [keys]} of each role that is touched: a grant's reasons, or for a strip whatever it could have been held for.

    A role that nothing of the member's buys any more (an offer is gone, a plan was switched) could have been held for anything.
    """
    def buys(sub, role):
        return any((found := server.bought(sub, item)) and role in found[0].roles for item in sub.items)

    sold = {role: [sub.key for sub in subs if buys(sub, role)] or [sub.key for sub in subs] for role in plan.strips}
    return {role: list(wants[role].sources) for role in plan.grants} | sold
