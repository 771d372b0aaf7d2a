"""A month of many members at Stripe, in Discord and on our pages, whose webhooks come twice or more, late and in any order.

    storm = Storm(made, seed=1)     # made(post) is a furnished Product whose Stripe posts its webhooks with `post`
    storm.month()                   # everything has happened, and everything that was not lost has been delivered
    storm.wrong()                   # {member: (wanted, shown)}; nothing when all is right

Every delivery is a body that the Stripe sandbox really posted, signed anew with the time of its delivery and taken in by
the intake. The judge reads the sandbox's own objects by rules written down here, and nothing of the product.
"""
import heapq
import itertools
import json
import random
from collections import Counter

from infra.local.sandbox.stripe_billing import OVER
from infra.local.sandbox.stripe_webhooks import signature
from infra.local.walker import Browser
from tests.usecases.product import DAY, DISCORD, GOLD, SECRET, SERVER, SILVER

MEMBERS, GRACE = 50, 7 * DAY
ROLES_OF = {500: {GOLD}, 300: {SILVER}, 700: {GOLD, SILVER}}      # by the price's amount, as Product.furnish sells them
PRICE_OF = {"gold": 500, "silver": 300, "both": 700}
GOOD, DECLINED_LATER = "4242424242424242", "4000000000000341"
HOUR, VISIBILITY = 3_600, 361
UNDELETED = 0.02     # the share of messages that a worker has done and the queue delivers once more


class Storm:
    """`seed` repeats it. People act for `days`; `lost` is the share of events that never come.

    `did` counts what happened; `delivered` and `queued` count deliveries; `misdeeds` are role calls that were wrong when
    made; `unseen` are members who came back to the server and told nobody.
    """

    def __init__(self, made, *, seed, days=34, lost=0.0):
        self.chance, self.lost = random.Random(seed), lost
        self.did, self.delivered, self.queued, self.recorded, self.failed = Counter(), 0, 0, 0, 0
        self.misdeeds, self.unseen, self.quiet, self._rolled = [], set(), False, 0
        self._agenda, self._number, self._heard, self._browser = [], itertools.count(), set(), Browser()
        self.owner, self._told = {}, {}      # {subscription id: member}; {subscription id: when we last worked on news of it}
        self.product = made(self._posted)
        self.product._mount(self._browser.session)
        self.members = [str(970_000_000_000_000_000 + n) for n in range(MEMBERS)]
        for user in self.members:
            self.product.control("PUT", f"/users/{user}", {"username": f"user{user}", "global_name": user})
            self.product.control("PUT", f"/guilds/{SERVER}/members/{user}")
        self._watch_role_calls()
        self.end = self.now + days * DAY

    @property
    def now(self):
        return self.product.time.at

    # What happens

    def month(self):
        """The month is over, its events and those of the days after it are delivered and worked on."""
        for user in self.members:
            self._plan(self.chance.uniform(0, 2 * DAY), self._acts, user)
        self._go_on()
        while at := self._next_news():      # somebody's grace has ended since the last event: the next one tells
            self._pass(at)
            self._go_on()

    def _go_on(self):
        while self._agenda:
            at, _, what, about = heapq.heappop(self._agenda)
            self._pass(at)
            what(about)
        while any(self.product.aws.waiting()):
            self._pass(self.now + VISIBILITY)
            self._work()

    def a_day_later(self):
        """A day later; nothing that happened in it at Stripe was told us."""
        self.quiet = True
        self._pass(self.now + DAY + HOUR)

    def _plan(self, seconds, what, about):
        heapq.heappush(self._agenda, (self.now + seconds, next(self._number), what, about))

    def _pass(self, at):
        """It is `at` or later, and Stripe has done what fell due, and posted what it had to tell."""
        self.product.time.passes(max(0, at - self.now))
        if self.now - self._rolled > 900:     # every request rolls it too
            self._rolled = self.now
            self.product.stripe.roll()
        self.product.stripe.deliveries.pump()

    def _acts(self, user):
        if self.now > self.end:
            return
        weights, deeds = zip(*self._possible(user))
        (deed, about), = self.chance.choices(deeds, weights)
        if self._tried(deed, user, about):
            self.did[deed.__name__.strip("_")] += 1
        self.product.stripe.deliveries.pump()
        self._plan(self.chance.uniform(1, 9) * DAY, self._acts, user)

    def _tried(self, deed, user, about):
        """Whether it was done: what our pages refuse (409, 404) is done another day."""
        from chalicelib.problem import Problem
        try:
            deed(user, about)
        except Problem as problem:
            assert problem.status in (404, 409), problem
            self.did["refused"] += 1
            return False
        return True

    def _possible(self, user):
        """(weight, (deed, what with)) of everything that this member can do now, or that can happen to them."""
        subs = self.live(user)
        yield 1, (self._nothing, None)
        for offer in sorted(PRICE_OF.keys() - {sub["offer"] for sub in subs}):
            yield (2 if subs else 12), (self._buys, offer)
        for sub in subs:
            if sub["status"] == "past_due":
                yield 8, (self._recovers, sub)
            else:
                yield 1, (self._renews, sub)
                yield 2, (self._fails, sub)
            if sub["cancel_at_period_end"] or sub["cancel_at"]:
                yield 4, (self._undoes, sub)
            else:
                yield 2, (self._cancels, sub)
                yield 2, (self._cancels_at_stripe, sub)
            yield 1, (self._is_ended, sub)
        yield (1, (self._leaves, None)) if user in self.shown() else (6, (self._comes_back, None))

    def live(self, user):
        """The member's subscriptions that have not ended, as Stripe has them, with `offer` beside."""
        names = {amount: offer for offer, amount in PRICE_OF.items()}
        return [{**sub, "offer": names[sub["items"]["data"][0]["price"]["unit_amount"]]}
                for sub in self.product.stripe.world.all("subscription") if self.owner.get(sub["id"]) == user and sub["status"] not in OVER]

    def _nothing(self, user, about):
        pass

    def _buys(self, user, offer):
        key = self.product.buys(offer, user)
        self.owner[key] = user
        self.did["bought again"] += sum(owner == user for owner in self.owner.values()) > 1

    def _renews(self, user, sub):
        self._order("POST", f"/subscriptions/{sub['id']}/renew", {"outcome": "succeed"})

    def _fails(self, user, sub):
        self._order("POST", f"/customers/{sub['customer']}/card", {"number": self.chance.choice([DECLINED_LATER, GOOD])})
        self._order("POST", f"/subscriptions/{sub['id']}/renew", {"outcome": "decline"})

    def _recovers(self, user, sub):
        self._order("POST", f"/customers/{sub['customer']}/card", {"number": GOOD})
        self._order("POST", f"/subscriptions/{sub['id']}/retry", {"outcome": "succeed"})

    def _cancels(self, user, sub):
        from chalicelib import cancel
        cancel.cancel(user=user, subscription_id=sub["id"], reason=None, comment=None, deadline=self.now + 25)

    def _undoes(self, user, sub):
        from chalicelib import cancel
        cancel.undo(user=user, subscription_id=sub["id"], deadline=self.now + 25)

    def _cancels_at_stripe(self, user, sub):
        from chalicelib import portal
        page = self._browser.open(portal.open_session(user=user, subscription_id=sub["id"], flow="cancel", deadline=self.now + 25))
        self._browser.session.post(page.form("Cancel subscription")["action"], data=page.form("Cancel subscription")["fields"], allow_redirects=False)

    def _is_ended(self, user, sub):
        self.product.ends(sub["id"])

    def _leaves(self, user, about):
        self.product.control("DELETE", f"/guilds/{SERVER}/members/{user}")

    def _comes_back(self, user, about):
        """Half of them press *restore*; of the others only a look can know that they are here again."""
        from chalicelib import restore
        self.product.control("PUT", f"/guilds/{SERVER}/members/{user}")
        self.unseen.add(user)
        if self.chance.random() < 0.5:
            self._tried(lambda user, about: restore.restore(user=user, server_id=SERVER), user, None)
            self.unseen.discard(user)

    def _order(self, method, path, body):
        status, _, content = self.product.stripe.handle(method, f"/_sandbox{path}", {}, json.dumps(body).encode())
        assert status < 300, content

    # What is told us

    def _posted(self, url, headers, body):
        """Stripe's first attempt comes to nothing in order: here it is decided when and how often it comes."""
        if self.quiet:
            return 200
        self.recorded += 1
        event = json.loads(body)
        if event["type"] != "checkout.session.completed" and self.chance.random() < self.lost:
            return 200      # whoever bought is heard of at least once: until then nobody could know whom to look at
        for _ in range(self.chance.choice([2, 2, 3])):
            self._plan(self._delay(), self._arrives, (body, event))
        return 200

    def _delay(self):
        if self.now > self.end:
            return self.chance.uniform(0, 60)
        longest = self.chance.choices([60, 6 * HOUR, 6 * DAY], [2, 3, 4])[0]
        return self.chance.uniform(0, longest)

    def _arrives(self, delivery):
        from chalicelib import intake
        body, event = delivery
        answer = intake.stripe(body, signature(body, (SECRET,), self.now))
        self.delivered += 1
        if answer["queued"]:
            self.queued += 1
            self._heard.add(_about(event["data"]["object"]))
        if self.chance.random() < 0.4:
            self._work()

    def _work(self):
        """Nothing is to be had from the queues: batches of up to ten, of which what failed, or was not deleted, comes again."""
        from chalicelib import worker
        sqs = self.product.aws.client("sqs")
        for queue, handle in (("stripe-events", worker.stripe_event), ("members", worker.member)):
            url = sqs.get_queue_url(QueueName=f"rolekeep-local-{queue}")["QueueUrl"]
            while got := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
                records = [{"messageId": one["MessageId"], "body": one["Body"]} for one in got]
                back = {one["itemIdentifier"] for one in worker.run(records, handle=handle, remaining=lambda: 60)["batchItemFailures"]}
                self.failed += len(back)
                for one in got:
                    if one["MessageId"] in back:
                        continue
                    if self.chance.random() < UNDELETED:
                        self.did["received again"] += 1
                    else:
                        sqs.delete_message(QueueUrl=url, ReceiptHandle=one["ReceiptHandle"])
        self._told |= dict.fromkeys(self._heard, self.now)
        self._heard.clear()

    # The judge

    def wanted(self, user, *, only=None):
        """The roles that Stripe's own objects pay for now, of all the member's subscriptions or of these `only`."""
        roles = set()
        for sub in self.product.stripe.world.all("subscription"):
            if self.owner.get(sub["id"]) == user and (only is None or sub["id"] in only) and self._stands(sub):
                roles |= ROLES_OF[sub["items"]["data"][0]["price"]["unit_amount"]]
        return roles

    def _stands(self, sub):
        item = sub["items"]["data"][0]
        ends = [sub["cancel_at"]] if sub["cancel_at"] else [item["current_period_end"]] if sub["cancel_at_period_end"] else []
        if sub["status"] == "past_due":
            ends.append(item["current_period_start"] + GRACE)
        return sub["status"] in ("active", "past_due") and all(self.now < end for end in ends)

    def shown(self):
        """{member in the server: the roles that Discord shows}."""
        return {one["id"]: set(one["roles"]) for one in self.product.control("GET", f"/guilds/{SERVER}")["members"]}

    def wrong(self):
        """{member: (wanted, shown)} of those in the server for whom the two differ."""
        shown = self.shown()
        return {user: (self.wanted(user), shown[user]) for user in self.members if user in shown and self.wanted(user) != shown[user]}

    def _watch_role_calls(self):
        """A role is granted only while it is paid for, and taken only while nothing that we have heard of pays for it."""
        wire = self.product.wires[DISCORD]
        before = wire.handle

        def handle(method, target, headers, body):
            if method in ("PUT", "DELETE") and "/roles/" in target:
                user, role = target.split("/members/")[1].split("/roles/")
                right = role in self.wanted(user) if method == "PUT" else role not in self.wanted(user, only=self._told)
                if not right:
                    self.misdeeds.append((method, user, role, self.now))
            return before(method, target, headers, body)

        wire.handle = handle

    def _next_news(self):
        """The instant of the next event about somebody whose grace is over though the subscription is not, or None."""
        world = self.product.stripe.world
        limbo = {sub["id"] for sub in world.all("subscription") if sub["status"] == "past_due"
                 and self._told.get(sub["id"], 0) < sub["items"]["data"][0]["current_period_start"] + GRACE <= self.now}
        tries = [one["next_payment_attempt"] for one in world.all("invoice") if one["status"] == "open" and _about(one) in limbo]
        return min((at for at in tries if at), default=None)


def _about(thing):
    """The id of the subscription that an event's object is, or belongs to."""
    return thing.get("subscription") or ((thing.get("parent") or {}).get("subscription_details") or {}).get("subscription") or thing["id"]
