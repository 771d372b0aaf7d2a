"""Connected accounts of Stripe and PayPal: bound to servers by their owner, checked there, and unknown once we are let in no more."""
from chalicelib import audit, log, parked, ports, problem, settings
from chalicelib.domain import accounts as rules
from chalicelib.domain import ids
from chalicelib.domain.ids import OPERATOR
from chalicelib.domain.paypal import EVENTS
from chalicelib.gateways import paypal, processors, queues, stripe
from chalicelib.gateways.outcomes import Unknown
from chalicelib.problem import Problem
from chalicelib.store import accounts, members, servers

NO_ACCESS = ("stripe_403", "stripe_404")    # the account is not connected to us, or not any more (docs.stripe.com/error-codes)
_NEXT = "Use a Stripe account of its own with the full Dashboard, connected by its owner."
_UNFIT = {
    rules.TYPE: ("It is an Express or Custom account. Here the account itself must be the merchant (direct charges).", _NEXT),
    rules.FEES: ("Its Stripe fees are paid by the platform. With direct charges the account pays them itself.", _NEXT),
    rules.LOSSES: ("Its losses are borne by the platform. With direct charges they are not.", _NEXT),
    rules.DASHBOARD: ("It has not the full Stripe Dashboard, which its owner needs for refunds and disputes.", _NEXT),
    rules.CARDS: ("It may not take card payments yet (capability card_payments).",
                  "Finish the account's set-up in its Stripe Dashboard, then connect it again."),
    rules.CHARGES: ("It may not charge anybody at present (charges_enabled).", "See what its Stripe Dashboard asks for, then connect it again."),
    rules.MODE: ("It belongs to Stripe's other mode (test or live).", "Connect it in the mode of this installation's key."),
}


def connect(*, server_id, account, owner, deadline, transfer=False):
    """The account is bound to this server, and whatever waited for it has been called; answers what is so now.

    `owner` (a Discord user) answers for the account and for every server it is bound to. `transfer`: they take it over with
    all of these. Doing it again changes nothing; a crash leaves nothing that doing it again does not mend. Raises Problem
    400, 404 (no such server), 409 (why the account cannot be used, or whose it is) and 503.
    """
    before = _usable(account, server_id, owner, deadline, transfer=transfer)
    now = _bind(account, before, server=server_id, owner=owner)
    waiting = _call_members(now) if before and not before.connected else 0
    return {**shown(now), "server": server_id, "members_called": waiting, "released": parked.release(account, deadline=deadline)["released"]}


def check(*, server_id, account, owner, deadline, transfer=False):
    """What `connect` would be about, or the Problem that it would raise; nothing is changed."""
    before = _usable(account, server_id, owner, deadline, transfer=transfer)
    return {"account": account, "server": server_id, "owner": owner, "before": shown(before) if before else None}


def shown(account):
    """An account for its operator: id, owner, servers, state, since and why."""
    return {"account": account.id, "owner": account.owner, "servers": sorted(account.servers), "state": account.state,
            "since": account.since, "why": account.why}


def deauthorized(account, *, event, deadline):
    """An account that Stripe lets us call no more is flagged, and somebody told; Unknown when Stripe does not say.

    The event is a hint only: an account that can be read is connected, however late the event comes. Roles stay.
    """
    if accounts.read(account) is None:
        return log.info("account_ignored", account=account, why="never_connected")
    answer = stripe.read_account(account, deadline=deadline)
    if not isinstance(answer, Unknown):
        return log.info("account_ignored", account=account, why="still_connected")
    if answer.why not in NO_ACCESS:
        return answer
    with audit.act(account, {"cause": event, "act": "disconnected", "evidence": answer.why}, at=ports.now()):
        if accounts.disconnect(account, at=ports.now(), why=event):
            log.alarm("account_disconnected", account=account, why=answer.why)
    return None


def prices(server, offer, processor=None):
    """The offer's prices (of this processor) whose account may be used now; Problem 409 when it has some, but all are disconnected."""
    known = accounts.read_some({p.account for p in offer.prices} - {OPERATOR})
    meant = [p for p in offer.prices if p.account in server.accounts and processor in (None, p.processor)]
    sold = sellable(server, offer, known, processor)
    if meant and not sold:
        raise Problem(409, "account-disconnected", "This cannot be bought at present",
                      "The account that this is paid through is not connected.", "Ask the server's owner to connect it again.")
    return sold


def sellable(server, offer, known, processor=None):
    """The offer's prices (of this processor) whose account may be used now, in their order; `known`: {account id: Account}."""
    def connected(account):
        return account == OPERATOR or (found := known.get(account)) and found.connected and server.id in found.servers and not _without_credentials(account)
    return [p for p in offer.prices if p.account in server.accounts and processor in (None, p.processor) and connected(p.account)]


def _without_credentials(account):
    """True for a PayPal account that is not in the settings any more."""
    return ids.processor_of(account) == ids.PAYPAL and account not in settings.get().paypal_accounts


def unreachable(key):
    """The Problem to answer when Stripe told us nothing about this subscription: its account is disconnected, or try later."""
    account = ids.parse(key)[1]
    found = None if account == OPERATOR else accounts.read(account)
    if found is None or found.connected and not _without_credentials(account):
        return problem.try_later(processors.name(key))
    name = processors.name(key)
    return Problem(409, "account-disconnected", f"The {name} account is not connected",
                   f"The server's owner has disconnected the {name} account that this is paid through, so we can neither read nor "
                   "change it. Your roles stay as they are.",
                   f"Ask the server's owner: they can cancel it at {name}, or connect the account again.")


def _usable(account, server_id, owner, deadline, *, transfer):
    """The account as it is known here, or None. The server may have it, and Stripe says that it can be used; a Problem otherwise."""
    named = ids.valid("merchant", account) or ids.valid("account", account) and account != OPERATOR
    if not ids.valid("snowflake", server_id) or not ids.valid("snowflake", owner) or not named:
        raise problem.bad_request("Name a server, a connected account (acct_… or a PayPal merchant id) and its owner's Discord id.")
    server, _ = servers.read(server_id)
    if server is None:
        raise problem.not_found()
    before = accounts.read(account)
    if before and before.owner != owner and not transfer:
        raise _taken()
    _ask_paypal(account, deadline) if ids.processor_of(account) == ids.PAYPAL else _ask_stripe(account, deadline)
    return before


def _ask_stripe(account, deadline):
    """Stripe says that the account can be used; Problem 409 or 503 otherwise."""
    answer = stripe.read_account(account, deadline=deadline)
    if isinstance(answer, Unknown):
        if answer.why not in NO_ACCESS:
            raise problem.try_later("Stripe")
        raise Problem(409, "account-no-access", "Stripe does not let us use this account",
                      "It is not connected to this platform, or in Stripe's other mode (test or live) only.",
                      "Its owner must connect it to the platform first, in the mode of this installation's key.")
    if why := rules.unfit(answer, livemode=settings.get().stripe_livemode):
        detail, step = _UNFIT[why]
        raise Problem(409, f"account-{why}", "This account cannot be used here", detail, step)


def _ask_paypal(account, deadline):
    """PayPal lets us in with this account's credentials, and sends us what we must hear of; Problem 409 or 503 otherwise.

    Nothing else has to be set up there: subscriptions, refunds and disputes need no settings of the account.
    """
    known = settings.get().paypal_accounts.get(account)
    if known is None:
        raise _unusable("no-access", "There are no credentials for this PayPal account here.",
                        "Add its merchant id, client id, secret and webhook id to PAYPAL_ACCOUNTS.")
    address = f"{settings.get().public_url}/webhooks/paypal/{account}"
    for name in known.webhook_ids:
        found = paypal.webhook(account, name, deadline=deadline)
        if isinstance(found, Unknown):
            if found.why in ("paypal_token_401", "paypal_401", "paypal_403"):
                raise _unusable("no-access", "PayPal does not accept this account's client id and secret.",
                                "Copy both from the app in PayPal's developer dashboard, in the environment of PAYPAL_ENVIRONMENT.")
            if found.why != "paypal_404":
                raise problem.try_later("PayPal")
            raise _unusable("webhook", f"PayPal knows no webhook {name} of this app.", f"Make one for {address} and put its id into PAYPAL_ACCOUNTS.")
        told = {one.get("name") for one in found.get("event_types") or () if isinstance(one, dict)}
        if found.get("url") != address:
            raise _unusable("webhook", "The webhook leads elsewhere.", f"Its address must be {address}.")
        if missing := [] if "*" in told else sorted(set(EVENTS) - told):
            raise _unusable("webhook", f"The webhook does not tell of: {', '.join(missing)}.", "Subscribe it to these events, or to all.")


def _unusable(what, detail, step):
    return Problem(409, f"account-{what}", "This account cannot be used here", detail, step)


def _bind(account, before, *, server, owner):
    """The account as it is stored now: the row first, which decides whose it is, then the server's settings, which rules read."""
    facts = {"cause": "operator:connect", "server": server, "owner": owner, "before": before.owner if before else ""}
    with audit.act(account, facts, at=ports.now()):
        if before and before.owner != owner:
            accounts.hand_over(account, before=before.owner, owner=owner)
        now = accounts.bind(account, server=server, owner=owner, at=ports.now(), why="connected")
        if now is None:
            raise _taken()
        servers.use_account(server, account)
    return now


def _taken():
    return Problem(409, "account-taken", "This account is somebody else's",
                   "Another owner has connected it: one account serves the servers of one owner only.",
                   "Use another account, or hand this one over with all its servers.")


def _call_members(account):
    """How many members were called: everybody of the account's servers, since what could not be read can be read again.

    Without it they come by themselves within the hour.
    """
    called = 0
    for server in sorted(account.servers):
        for users in members.of_server(server):
            queues.send_all(queues.MEMBERS, [({"user": user, "server": server, "cause": "account:connected"}, server) for user in users])
            called += len(users)
    return called
