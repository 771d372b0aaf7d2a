"""The member's one page, from stored state alone: it answers while Stripe, PayPal and Discord are down."""
from chalicelib import connect, ports, signin, view
from chalicelib.domain.ids import OPERATOR
from chalicelib.domain.offers import Server
from chalicelib.store import accounts, members, servers


def profile(secret, member):
    """The profile of the signed-in member. One query for the memberships, one batch read for names and offers."""
    now, wall = ports.now(), ports.wall()
    rows = members.of_user(member.user)
    paid_through = {sub.account for row in rows for sub in row.subs.values()}
    known = servers.read_many([row.server for row in rows], accounts=paid_through - {OPERATOR})
    shown = [view.membership(row, server or Server(row.server, row.server), _closed_why(closed, wall), now=now)
             for row in rows for server, closed in [known[row.server]] if row.subs or row.roles]
    return {
        "member": {"id": member.user, "name": member.name}, "csrf_token": signin.csrf_token(secret), "as_of": view.iso(now),
        "servers": sorted(shown, key=lambda one: (one["name"].casefold(), one["id"])),
    }


def offers():
    """Every visible offer of every server that sells here, as far as it can be bought now: what a visitor may see."""
    found = [server for server, _ in servers.read_many(servers.directory()).values() if server is not None]
    known = accounts.read_some({account for server in found for account in server.accounts} - {OPERATOR})
    return {"servers": [{"id": server.id, "name": server.name, "offers": [
        _offer(server, offer, prices) for offer in server.offers if offer.visible and (prices := connect.sellable(server, offer, known))]}
        for server in found]}


def own_subscription(user, subscription_id):
    """(row, subscription) of this member, or None: somebody else's is no different from one that does not exist."""
    for row in members.of_user(user):
        for sub in row.subs.values():
            if sub.id == subscription_id:
                return row, sub
    return None


def _closed_why(closed, wall):
    return next((one.why for one in closed if one.until > wall), None)


def _offer(server, offer, prices):
    return {"id": offer.id, "name": offer.name, "description": offer.description, "price": prices[0].shown(),
            "processors": list(dict.fromkeys(one.processor for one in prices)),
            "roles": [{"id": role, "name": server.role_name(role)} for role in offer.roles]}
