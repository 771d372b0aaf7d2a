"""One member of one server with the whole product around them: real workers, stores and gateways over the small worlds.

    with Town().open() as town:
        town.buy("sub_1", GOLD_PRICE)
        town.settle_down()
        report = explore(town.scenario("ends", start), ...)

The judge knows the truth from Stripe's own objects, by rules written down here and not in the product: Discord shows it, or
the row itself knows that it does not and is due in time. It is asked before any sweep and before any look.
"""

import contextlib
import json
import logging
import os

from infra.local import aws
from tests.worlds.dynamo import World
from tests.worlds.gates import Clock, Ports, Scenario, gated
from tests.worlds.processors import DISCORD_BASE, STRIPE_BASE, Discord, Stripe
from tests.worlds.sqs import Queues

SERVER, USER = "111111111111111111", "222222222222222222"
GOLD, SILVER = "300000000000000001", "300000000000000002"
GOLD_PRICE, OTHER_GOLD_PRICE, SILVER_PRICE = "price_gold", "price_other", "price_silver"
PASS_PRICE, LIFE_PRICE = "price_pass", "price_life"     # bought once: gold for thirty days, silver for ever
ROLES_OF = {GOLD_PRICE: {GOLD}, OTHER_GOLD_PRICE: {GOLD}, SILVER_PRICE: {SILVER}, PASS_PRICE: {GOLD}, LIFE_PRICE: {SILVER}}
DAYS_OF = {PASS_PRICE: 30, LIFE_PRICE: None}
BEGIN, DAY, GRACE = 1_800_000_000, 86_400, 7 * 86_400
# Gold has the usual policies: a full refund takes what the charge paid for, an open or a lost dispute takes everything. Silver
# goes with any refund, and whatever a bank says.
ANY_REFUND, NO_DISPUTE = {SILVER_PRICE, LIFE_PRICE}, {SILVER_PRICE, LIFE_PRICE}
LEASE, VISIBILITY, FUNCTION = 120, 360, 60
PREFIX = "rolekeep-local-"
ENVIRONMENT = {
    "STAGE": "local", "PUBLIC_URL": "http://portal.test", "STRIPE_API_BASE": STRIPE_BASE, "DISCORD_API_BASE": DISCORD_BASE,
    "STRIPE_API_KEY": "sk_test_000000000000", "STRIPE_WEBHOOK_SECRET": "whsec_0000000000000000",
    "DISCORD_CLIENT_ID": "123456789012345678", "DISCORD_CLIENT_SECRET": "not-a-real-secret", "CLOCK_URL": "",
    "DISCORD_BOT_TOKEN": "not-a-real-token-0000", "AWS_DEFAULT_REGION": aws.REGION, "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test"}


class NotHeard(Exception):
    """The queue function gave the message back, so it comes again."""


class Town:
    """The worlds, how messages reach the product, and the judge. One member, USER, of one server, SERVER."""

    def __init__(self):
        self.clock = Clock(BEGIN)
        self.tables = World.from_resources(aws.resources("local"), now=self.clock)
        self.queues = Queues.from_resources(aws.resources("local"), now=self.clock)
        self.stripe, self.discord = Stripe(), Discord()
        self.worlds = (self.clock, self.tables, self.queues, self.stripe, self.discord)
        self.discord.members.add((SERVER, USER))

    @contextlib.contextmanager
    def open(self):
        """The product lives in this town until the end of the block."""
        before = dict(os.environ)
        os.environ.update(ENVIRONMENT)
        os.environ.pop("AWS_ENDPOINT_URL", None)
        from chalicelib import log, ports
        with gated(aws=(self.tables, self.queues), http=(self.stripe, self.discord)), _own_clients():
            real, level = ports.use(Ports(self.clock)), log._logger().level
            log._logger().setLevel(logging.CRITICAL)
            try:
                self._register()
                self._warm_up()
                yield self
            finally:
                ports.use(real)
                log._logger().setLevel(level)
                os.environ.clear()
                os.environ.update(before)

    def _register(self):
        from chalicelib.store import servers

        def price(key):
            once = {"interval": "once", "days": DAYS_OF[key]} if key in DAYS_OF else {"interval": "month"}
            return {"account": "operator", "id": key, "amount": 500, "currency": "eur", **once}

        def offer(name, roles, *prices, **policies):
            return {"name": name, "roles": roles, "prices": [price(key) for key in prices], **policies}

        servers.write(SERVER, {"name": "Town", "offers": {
            "gold": offer("Gold", [GOLD], GOLD_PRICE, OTHER_GOLD_PRICE, PASS_PRICE),
            "silver": offer("Silver", [SILVER], SILVER_PRICE, LIFE_PRICE, refund="any", dispute="ignore")}})

    def _warm_up(self):
        """What a function asks once in its life has been asked: every run begins alike."""
        from chalicelib.gateways import queues, stripe
        stripe._client()
        for queue in (queues.STRIPE_EVENTS, queues.MEMBERS):
            queues._url(queue)

    # What has happened before

    def buy(self, subscription, price, *, charge=None, **fields):
        """The member has this subscription at Stripe, paid by the charge, and we know that it is theirs, and what the charge is for."""
        self.stripe.add(subscription, price=price, now=self.clock.now, **fields)
        self._link(subscription)
        if charge:
            self.stripe.pay(subscription, charge, now=self.clock.now)
            self._link_charge(charge, subscription, self.stripe.subscriptions[subscription]["items"]["data"][0]["current_period_end"])

    def buy_once(self, session, price, *, charge):
        """The member has bought this once, with this charge, and we know that it is theirs."""
        self.stripe.sell(session, price=price, now=self.clock.now, charge=charge)
        self._link(session)
        self._link_charge(charge, session, None)

    def check_out(self, name, price, *, charge=None, **fields):
        """The member has bought this at Stripe (a subscription, or once); nothing of ours but the checkout intent says whose it is."""
        from chalicelib.store import links
        intent = f"intent-of-{name}-0000"
        claim = {"rolekeep_intent": intent}
        if name.startswith("cs_"):
            self.stripe.sell(name, price=price, now=self.clock.now, charge=charge, metadata=claim)
        else:
            self.stripe.add(name, price=price, now=self.clock.now, metadata=claim, **fields)
            if charge:
                self.stripe.pay(name, charge, now=self.clock.now)
        links.make_intent(intent, user=USER, server=SERVER, offer="gold", account="operator", now=self.clock.now)

    def come_back(self, name, price):
        """Whose data was erased begins a new purchase, as the button does, and Stripe makes the subscription; False while there is
        no tombstone, when the button refuses."""
        from chalicelib.store import members
        row = self.row()
        if row is None or "requested" in row:
            return False
        members.create(user=USER, server=SERVER, now=self.clock.now, revive=True)
        self.check_out(name, price)
        return True

    def _link(self, name):
        from chalicelib.store import links
        links.link_subscription(key_of(name), user=USER, server=SERVER, offer="gold", account="operator", now=self.clock.now)

    def _link_charge(self, charge, name, until):
        from chalicelib.store import links
        links.link_charge(key_of(charge), reason=key_of(name), until=until, now=self.clock.now)

    def settle_down(self):
        """Everything bought so far, and every charge that money has gone back of, has been looked at; the member's row is clean."""
        gone_back = [charge["id"] for charge in self.stripe.charges.values() if charge["amount_refunded"] or charge["disputed"]]
        for name in (*self.stripe.subscriptions, *self.stripe.sessions, *gone_back):
            self.event(name, "evt_before")()
        assert not list(self._wrong(unheard=False)), list(self._wrong(unheard=False))

    # Messages

    def event(self, subject, name, what=None):
        """A function that delivers Stripe's event about a subscription, a session or a charge, as the queue function gets it.

        `what` is the event's type. Subscriptions are told of in the older version of the message.
        """
        message = {"event": name, "account": "operator"}
        if subject.startswith("sub_"):
            message |= {"v": 1, "type": what or "customer.subscription.updated", "subscription": subject}
        elif subject.startswith("cs_"):
            message |= {"v": 2, "type": what or "checkout.session.completed", "kind": "purchase", "id": subject}
        else:
            message |= {"v": 2, "type": what or "charge.refunded", "kind": "charge", "id": subject}
        return lambda: self._deliver("stripe_event", message)

    def visit(self, cause, **fields):
        """A function that delivers "look at this member again"."""
        message = {"v": 1, "user": USER, "server": SERVER, "cause": cause, **fields}
        return lambda: self._deliver("member", message)

    def erase(self):
        """A function that delivers the member's wish, uttered now, to be erased."""
        return self.visit("member:erase", erase=True, asked=self.clock.now)

    def _deliver(self, handler, message):
        from chalicelib import worker
        began = self.clock.now
        answer = worker.run([{"messageId": "1", "body": json.dumps(message)}], handle=getattr(worker, handler),
                            remaining=lambda: FUNCTION - (self.clock.now - began))
        if answer["batchItemFailures"]:
            raise NotHeard

    def arrives(self, run, name, message):
        """A worker gets this message now; if it dies or fails, the message comes again."""
        run.notes.setdefault("messages", {})[name] = message
        run.spawn(name, message)

    def comes_late(self, run, message):
        """Nobody hears of this before time has passed."""
        run.notes.setdefault("late", []).append(message)

    def happens(self, run, name, *steps):
        """Somebody outside does these (label, function) one after the other, whenever it may be."""
        run.spawn(name, lambda: [run.step(*step) for step in steps] and None, mortal=False)

    # Exploring

    def scenario(self, name, start, *, loud=(), **more):
        """A Scenario in this town as it is now. `loud` names tables whose calls matter here beside the members'."""
        def quiet(label):
            if label.startswith(("stripe GET /invoice", "stripe GET /payment_intents")):     # what was paid for never changes here
                return True
            ours = "members" in label and " Query " not in label
            return label.startswith("dynamodb ") and not ours and not any(table in label for table in loud)

        return Scenario(name, worlds=self.worlds, start=start, judge=self.judge, settle=self.settle,
                        judge_settled=self.judge_settled, quiet=quiet, **more)

    def settle(self, run):
        """Time has passed, and every message that nobody finished has come again until it was."""
        self.clock.now += VISIBILITY + 1
        for one in run.workers:
            if one.unfinished and one.mortal:
                self._again(run, run.notes["messages"][one.name])
        for message in run.notes.pop("late", ()):
            self._again(run, message)
        run.notes["heard"] = True
        self._drain(run)

    def _again(self, run, message):
        for _ in range(5):
            with contextlib.suppress(NotHeard):
                return message()
            self.clock.now += VISIBILITY + 1
        run.notes["buried"] = True

    def _drain(self, run):
        for queue, handler in ((f"{PREFIX}stripe-events", "stripe_event"), (f"{PREFIX}members", "member")):
            while self.queues.messages[queue]:
                message_id, message = min(self.queues.messages[queue].items(), key=lambda one: one[1].visible_at)
                del self.queues.messages[queue][message_id]
                self.clock.now = max(self.clock.now, message.visible_at)
                self._again(run, lambda: self._deliver(handler, json.loads(message.body)))

    # Judging

    def truth(self):
        """The roles that the member's subscriptions and purchases at Stripe pay for at this moment."""
        return set().union(*(ROLES_OF[price] for price in self._paid_for()))

    def _paid_for(self):
        """The prices that give something now."""
        for sub in self.stripe.subscriptions.values():
            for item in sub["items"]["data"]:
                if self._stands(sub, item) and not self._taken_back(item["price"]["id"], self._charges_of(sub["id"])):
                    yield item["price"]["id"]
        for session in self.stripe.sessions.values():
            for line in session["line_items"]["data"]:
                price, charge = line["price"]["id"], self._charge_of(session)
                over = DAYS_OF[price] and self.clock.now >= charge["created"] + DAYS_OF[price] * DAY
                if session["payment_status"] == "paid" and not over and not self._taken_back(price, [(charge, None)]):
                    yield price

    def _stands(self, sub, item):
        ends = sub.get("cancel_at") or (item["current_period_end"] if sub["cancel_at_period_end"] else None)
        if ends is not None and ends <= self.clock.now:
            return False
        if sub["status"] == "past_due":
            return self.clock.now < item["current_period_start"] + GRACE
        return sub["status"] in ("active", "trialing")

    def _charges_of(self, subscription):
        """(charge, end of the period that it paid for), found as Stripe's objects name each other."""
        for payment in self.stripe.invoice_payments.values():
            invoice = self.stripe.invoices[payment["invoice"]]
            if invoice["parent"]["subscription_details"]["subscription"] == subscription:
                intent = self.stripe.intents[payment["payment"]["payment_intent"]]
                yield self.stripe.charges[intent["latest_charge"]], max(line["period"]["end"] for line in invoice["lines"]["data"])

    def _charge_of(self, session):
        return self.stripe.charges[self.stripe.intents[session["payment_intent"]]["latest_charge"]]

    def _taken_back(self, price, charges):
        """Whether a refund or a dispute of one of the charges takes what was bought, by the policies of its offer."""
        for charge, until in charges:
            lost = 1 if price in ANY_REFUND else charge["amount"]
            if charge["amount_refunded"] >= lost and (until is None or self.clock.now < until):
                return True
            disputed = [dispute["status"] for dispute in self.stripe.disputes.values() if dispute["charge"] == charge["id"]]
            if price not in NO_DISPUTE and {"needs_response", "under_review", "lost"} & set(disputed):
                return True
        return False

    def row(self):
        """The membership as plain values, or None."""
        item = self.tables.item(f"{PREFIX}members", USER, SERVER)
        return None if item is None else plain({"M": item})

    def judge(self, run, *, late=False):
        """What is wrong now that nobody works; a message that is still to come again may know what the row does not."""
        unheard = not run.notes.get("heard") and any(one.unfinished for one in run.workers) or run.notes.get("late")
        waiting = any(self.queues.messages[f"{PREFIX}{name}"] for name in ("stripe-events", "members"))
        unread = any(where in ("stripe subscriptions", "stripe checkout") for where, _ in run.suffered)
        yield from self._wrong(unheard=unheard or waiting, unread=unread, late=late)
        yield from self._forgotten(run, unheard or waiting)
        if run.notes.get("buried"):
            yield "a message went to the dead letters"
        for role in run.notes.get("always", ()):
            if (SERVER, USER, role) in self.discord.stripped:
                yield "a role was taken that was paid for at every moment"
        if run.notes.get("never bare") and (SERVER, USER) in self.discord.bare:
            yield "the member was left without any role"

    def judge_settled(self, run):
        """The same after time and redelivery, then after late landings; at last, swept, everything is right."""
        yield from self.judge(run)
        if run.land_late():
            yield from (f"after a late landing: {problem}" for problem in self.judge(run, late=True))
        yield from self._swept(run)

    def _wrong(self, *, unheard, unread=False, late=False):
        row, now = self.row(), self.clock.now
        wanted = self.truth() if (SERVER, USER) in self.discord.members and not self._erasing(row) else set()
        shown = {role for server, user, role in self.discord.held if (server, user) == (SERVER, USER)}
        if row is None:
            if wanted and not unheard:
                yield "there is no row, and nobody will come again"
            return
        if not unheard:
            yield from self._traces(row)
        if "requested" not in row:
            return (yield from self._tombstone(row, shown))
        for key in row["subs"]:
            if self.tables.item(f"{PREFIX}links", key) is None:
                yield f"{key} is in the row, but nothing leads to it"
        why = list(self._open(row))
        if unread and (row.get("due_at") or now) <= now + LEASE:
            why.append("a subscription could not be read")
        if why:
            latest = now + max([LEASE, *self._waits(row)]) + 1
            if row.get("due_at") is None or row["due_at"] > latest:
                yield f"the row knows that it is not done ({', '.join(why)}), but is not due in time"
        # The look that is planned after a take-over heals what lands later than a lease allows; nothing else may need it.
        if not unheard and set(why) <= (set() if late else {"look_at"}):
            yield from self._claims(row, wanted, shown)

    def _forgotten(self, run, unheard):
        """Whether a wish to be erased was lost, or reached somebody who has come back since."""
        row = self.row()
        buried = row is not None and "requested" not in row
        if run.notes.get("erased") and not unheard and not buried and not (row or {}).get("erased"):
            yield "the wish to be erased is lost"
        if run.notes.get("back") and buried:
            yield "who came back is forgotten again"

    def _erasing(self, row):
        """Whether everything is to be taken and forgotten: asked for, and no subscription is going on any more."""
        live = any(sub["status"] not in ("canceled", "incomplete_expired") for sub in self.stripe.subscriptions.values()
                   if row and key_of(sub["id"]) in row.get("subs", ()))
        return bool(row and row.get("erased")) and not live

    def _tombstone(self, row, shown):
        """What is wrong with what is left of a member: it holds nothing, and names nothing but who must not come back by mistake."""
        if shown:
            yield f"the member is erased, and still shows {names(shown)}"
        if more := set(row) - {"user_id", "server_id", "erased", "ttl"}:
            yield f"the tombstone still holds {sorted(more)}"
        subjects = {item["subject"]["S"] for item in self.tables.tables[f"{PREFIX}ledger"].items.values()}
        for subject in subjects:
            if USER in subject or subject.startswith("erased#") and subject != f"erased#{row['erased']['as']}":
                yield f"the member is erased, and the ledger still has {subject}"

    def _traces(self, row):
        """Whether something leads to the member from what was bought before they were erased."""
        if "requested" in row and "born" not in row:
            return
        for (key, _), item in self.tables.tables[f"{PREFIX}links"].items.items():
            if key.startswith("stripe:") and item.get("user_id") == {"S": USER} and key not in row.get("subs", ()):
                yield f"the member is erased, and {key} still leads to them"

    def _open(self, row):
        """Why the row itself says that it is not done."""
        if "requested" not in row:
            return
        if row["requested"] != row["done"]:
            yield "requests"
        if self._erasing(row):
            yield "erasing"
        for field in ("lease", "look", "look_at", "lookups"):
            if row.get(field) is not None:
                yield field
        for role in row["roles"].values():
            if role["state"] == "may" or role.get("block"):
                yield "a role in doubt or blocked"
        if row.get("due_at") is not None and row["due_at"] <= self.clock.now:
            yield "due"

    def _waits(self, row):
        """For how many seconds a row may wait beyond a lease's length: refusals, and what closes Discord."""
        for role in row["roles"].values():
            if role.get("block"):
                yield role["block"]["next"] - self.clock.now
        for scope in (SERVER, "everywhere"):
            item = self.tables.item(f"{PREFIX}servers", scope, "discord")
            if item is not None and "closed_until" in item:
                yield min(float(item["closed_until"]["N"]) - self.clock.now, 3_600)

    def _claims(self, row, wanted, shown):
        held = {role for role, known in row["roles"].items() if known["state"] == "held"}
        if shown != wanted:
            yield f"the row claims to be done; wanted {names(wanted)}, shown {names(shown)}"
        elif held != shown:
            yield f"the row claims to be done; held {names(held)}, shown {names(shown)}"
        ends = [instant for sub in self.stripe.subscriptions.values() if sub["status"] in ("active", "trialing", "past_due")
                for item in sub["items"]["data"] for instant in (sub.get("cancel_at"), item["current_period_end"])
                if instant and instant > self.clock.now]
        ends += [ends_at for session in self.stripe.sessions.values() for line in session["line_items"]["data"]
                 if (ends_at := self._charge_of(session)["created"] + (DAYS_OF[line["price"]["id"]] or 0) * DAY) > self.clock.now]
        if (ends or shown) and not (row.get("due_at") or 2**40) <= min([*ends, row["checked_at"] + DAY]):
            yield "the row claims to be done, but nobody will look when it ends"

    def _swept(self, run):
        """Once nothing fails any more, sweeps alone make everything right."""
        from chalicelib import sweep
        self.discord.untouchable.clear()
        for _ in range(12):
            row = self.row()
            if row is None or not list(self._open(row)):
                break
            self.clock.now = max(self.clock.now, row.get("due_at") or 0)
            sweep.due(remaining=lambda: FUNCTION, limit=FUNCTION)
            self._drain(run)
        yield from (f"after the sweeps: {problem}" for problem in self._wrong(unheard=False))
        if row is not None and list(self._open(row)):
            yield f"after the sweeps the row still is not done: {', '.join(self._open(row))}"
        if run.notes.get("erased") and row is not None and "requested" in row:
            yield "after the sweeps the member still is not erased"


@contextlib.contextmanager
def _own_clients():
    """The product's cached clients and settings are made anew inside, and again by whoever comes after."""
    from chalicelib import settings
    from chalicelib.gateways import queues, stripe, wire
    from chalicelib.store.tables import MODELS
    connection = MODELS[0]._get_connection().connection
    client, connection._client = connection._client, None
    cached = (settings.get, stripe._client, queues._client, queues._url, wire.session)
    try:
        for one in cached:
            one.cache_clear()
        yield
    finally:
        connection._client = client
        for one in cached:
            one.cache_clear()


def key_of(name):
    """The key of a subscription, a session or a charge of the operator's own account."""
    return f"stripe:operator:{name}"


def names(roles):
    """Role ids as words."""
    return sorted({GOLD: "gold", SILVER: "silver"}.get(role, role) for role in roles) or "nothing"


def plain(value):
    """An attribute value as Python has it."""
    ((tag, inner),) = value.items()
    if tag == "M":
        return {name: plain(one) for name, one in inner.items()}
    if tag == "L":
        return [plain(one) for one in inner]
    if tag == "N":
        return float(inner) if "." in inner else int(inner)
    return None if tag == "NULL" else inner
