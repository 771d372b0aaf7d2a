"""The walk through PayPal: people buy an offer there, and everything that real life brings happens to what they bought.

All but Nina buy on one day, so that one pass of the clock serves them all. Part of `infra.local.smoke`.
"""
import time

from infra.local.demo import ADA, ADA_AT_PAYPAL, GUILD, OFFERS
from infra.local.steps import answers, check, epoch, same, step
from infra.local.walker import wait_for

BOTH = OFFERS["backstage"]["roles"]
NAMES = ("Finn", "Gita", "Hugo", "Iris", "Jan", "Kim", "Leo", "Mona", "Nina", "Olaf")
HOUR, DAY = 3600, 86400
SWEEP_WITHIN = 20   # seconds
GRACE_DAYS, RETRY_DAYS = OFFERS["backstage"]["grace_days"], (5, 10)


class PayPalWalk:
    """The steps, in order, of `walk`, whose instance and sandboxes it uses."""

    def __init__(self, walk):
        self.walk, self.sandbox, self.url, self.paypal_url = walk, walk.sandbox, walk.urls[0], walk.urls[3]
        self.people, self.end = {}, None     # `end`: of the period that they have paid for
        for number, name in enumerate(NAMES):
            user = str(930000000000000011 + number)
            self.sandbox.discord("PUT", f"/users/{user}", {"username": name.lower(), "global_name": name})
            self.sandbox.join(GUILD, user)
            self.people[name] = self.walk.walker()
            self.people[name].sign_in(user)

    def all(self):
        """Every step after `unheard`."""
        for name in ("buy", "both_processors", "everybody_buys", "cancel", "go_on", "cancel_there", "disputes", "refund", "lost_cancel",
                     "payments_fail", "the_end", "retries", "suspended", "at_once"):
            getattr(self, name)()

    # Small words

    def at(self, name):
        """The person's subscription, as PayPal shows it now."""
        return self.sandbox.paypal("GET", f"/subscriptions/{self.people[name].sub}")

    def sales(self, sub):
        """What was paid for the subscription, oldest first."""
        return self.sandbox.paypal("GET", f"/subscriptions/{sub}/sales")["sales"]

    def buys(self, name):
        """The person has approved the offer at PayPal and comes back with a subscription there."""
        page = self.people[name].buy_with_paypal(GUILD, "backstage")
        check(page.url.startswith(self.url + "/"), f"the buyer comes back to the portal, not {page.url}")
        subs = self.sandbox.paypal("GET", "/subscriptions")["subscriptions"]
        self.people[name].sub = next(sub["id"] for sub in reversed(subs) if sub["status"] == "ACTIVE")

    def holds(self, name, *roles, seconds=None):
        """The person holds exactly these roles in Discord, within the time of a sweep: with so many changes Discord asks to wait now and then."""
        user = self.people[name].user_id
        wait_for(lambda: self.sandbox.roles(GUILD, user) == set(roles), seconds or SWEEP_WITHIN,
                 lambda: f"{name} holds exactly {roles or 'nothing'}, not {self.sandbox.roles(GUILD, user)}; {self.people[name].subscriptions()}")

    def shows(self, name, sub=None, **wanted):
        """The person's profile shows the subscription with these values; answers it."""
        def found():
            shown = next((one for one in self.people[name].subscriptions() if one["id"] == (sub or self.people[name].sub)), None)
            return shown if shown and all(shown[field] == value for field, value in wanted.items()) else None
        return wait_for(found, SWEEP_WITHIN, lambda: f"{name}'s profile shows {wanted}, not {self.people[name].subscriptions()}")

    def taken_at(self, name):
        """[instant] of each time a role was taken from the person, by Discord's audit log."""
        return self.walk.took_roles_at(self.people[name].user_id)

    def unpaid(self, name):
        """PayPal finds no money at the person's from now on."""
        self.people[name].at_paypal(self.people[name].sub, "Change source of money", funding="failing")

    # The steps

    def buy(self):
        with step(f"P1 buy the same offer with PayPal: its approval page, then the role within {self.walk.role_within} s; no id of Discord's at PayPal"):
            finn = self.people["Finn"]
            offer = next(o for s in finn.servers() if s["id"] == GUILD for o in s["offers"] if o["id"] == "backstage")
            same(offer["processors"], ["stripe", "paypal"], "how the offer can be paid")
            page = finn.browser.open(finn.begin(GUILD, "backstage", processor="paypal"))
            check(page.url.startswith(self.paypal_url + "/"), f"the approval page is PayPal's, not {page.url}")
            check("12.00 EUR every month" in page.text and page.has_button("Agree & Subscribe"), f"what is agreed to: {page.text}")
            same(finn.subscriptions(), [], "what there is before the buyer agrees")
            self.buys("Finn")
            self.holds("Finn", *BOTH, seconds=self.walk.role_within)
            self.shows("Finn", state="active")
            intent = self.at("Finn")["custom_id"]
            check(len(intent) > 20 and not {finn.user_id, GUILD} & {intent, *intent.split(":")}, f"it carries an intent, not a person: {intent}")
            answers(409, lambda: finn.begin(GUILD, "backstage", processor="stripe"))

    def both_processors(self):
        with step("P2 shown beside Stripe's in the same form; each is managed where it is paid: PayPal's page lists it"):
            ada = self.walk.walker()
            ada.sign_in(ADA)
            ada.paypal_email = ADA_AT_PAYPAL
            shown = {one["processor"]: one for one in ada.subscriptions(GUILD)}
            same({name: (set(one), one["state"], one["text"][:9]) for name, one in shown.items()},
                 dict.fromkeys(("stripe", "paypal"), (set(shown["stripe"]), "active", "Renews on")), "both forms")
            check(all({"manage", "cancel"} <= set(one["actions"]) for one in shown.values()), f"what can be done: {shown}")
            check(ada.portal_session(shown["stripe"]["id"]).startswith(self.walk.urls[1] + "/"), "Stripe's is managed at Stripe")
            page = ada.automatic_payments(shown["paypal"]["id"])
            check(page.url.startswith(self.paypal_url + "/myaccount/autopay"), f"PayPal's is managed at {page.url}")
            check("Backstage pass" in page.text and "Active" in page.text, f"and listed there: {page.text}")

    def unheard(self):
        """Nina has bought, and PayPal never tells of it: our own question, some ten seconds later, finds it (`lost_cancel` looks)."""
        with step("P0 buy with PayPal, which tells of none of it (dropped)"):
            self.sandbox.paypal("POST", "/faults", {"webhook": ".", "do": "drop", "times": None})
            self.buys("Nina")
            self.sandbox.paypal("DELETE", "/faults")

    def everybody_buys(self):
        with step("P3 eight more buy; their events come twice and pass each other on the way"):
            self.sandbox.paypal("POST", "/faults", {"webhook": ".", "do": "duplicate", "times": 6})
            self.sandbox.paypal("POST", "/faults", {"webhook": ".", "do": "shuffle", "seconds": 1})
            for name in NAMES[1:]:
                if name != "Nina":
                    self.buys(name)
            for name in NAMES[1:]:
                if name != "Nina":
                    self.holds(name, *BOTH)
            self.sandbox.paypal("DELETE", "/faults")

    def cancel(self):
        with step("P4 cancel at the period's end: PayPal says CANCELLED at once, the receipt “next charge: none”; the role stays; twice is once"):
            finn, renews = self.people["Finn"], self.shows("Finn", state="active")["renews_at"]
            same(self.at("Finn")["billing_info"]["next_billing_time"], renews, "when PayPal charges next, and what is shown")
            for already in (False, True):
                receipt = finn.cancel(finn.sub, reason="too_expensive")
                same((receipt["next_charge"], receipt["access_until"], receipt["already"]), ("none", renews, already), "the receipt")
                same(self.at("Finn")["status"], "CANCELLED", "what PayPal says")
            check("next_billing_time" not in self.at("Finn")["billing_info"], "and it will charge nothing more")
            shown = self.shows("Finn", state="ending", ends_at=renews, access_until=renews, renews_at=None, cancel_scheduled=True)
            check({"undo", "cancel_now"} <= set(shown["actions"]), f"what can be done: {shown['actions']}")
            self.holds("Finn", *BOTH)

    def go_on(self):
        with step("P5 undo: a new subscription, approved at PayPal, that begins when the paid time ends; nothing is charged before"):
            gita = self.people["Gita"]
            until = gita.cancel(gita.sub)["access_until"]
            old, page = gita.sub, gita.browser.open(gita.go_on(gita.sub))
            check("Nothing is charged before" in page.text, f"PayPal's page says when it begins: {page.text}")
            gita.approve(page.url)
            gita.sub = next(sub["id"] for sub in reversed(self.sandbox.paypal("GET", "/subscriptions")["subscriptions"]) if sub["status"] == "ACTIVE")
            shown = self.shows("Gita", state="active", begins_at=until)
            check("Nothing is charged before" in shown["text"], f"and so does the profile: {shown['text']}")
            same((self.at("Gita")["start_time"], self.sales(gita.sub)), (until, []), "when it begins, and what was paid for it")
            self.shows("Gita", old, state="ending", ends_at=until)
            answers(409, lambda: gita.go_on(old))
            self.holds("Gita", *BOTH)

    def cancel_there(self):
        with step("P6 cancel on PayPal's own page: the same result"):
            mona, renews = self.people["Mona"], self.shows("Mona", state="active")["renews_at"]
            page = mona.at_paypal(mona.sub, "Cancel automatic payment")
            check("Cancelled" in page.text, f"PayPal's page: {page.text}")
            self.shows("Mona", state="ending", ends_at=renews)
            self.holds("Mona", *BOTH)

    def disputes(self):
        with step("P7 a dispute takes the roles; won, they come back; lost, they do not"):
            outcomes = {"Jan": "RESOLVED_SELLER_FAVOUR", "Kim": "RESOLVED_BUYER_FAVOUR"}
            opened = {name: self.sandbox.paypal("POST", f"/sales/{self.sales(self.people[name].sub)[0]['id']}/dispute", {}) for name in outcomes}
            for name in outcomes:
                self.holds(name)
                self.shows(name, state="on_hold")
            for name, outcome in outcomes.items():
                self.sandbox.paypal("POST", f"/disputes/{opened[name]['dispute_id']}/resolve", {"outcome": outcome})
            self.holds("Jan", *BOTH)
            self.shows("Kim", state="on_hold", text="The payment was charged back, so it gives no access.")
            self.holds("Kim")

    def refund(self):
        with step("P7 a refund takes the roles"):
            jan = self.people["Jan"]
            self.sandbox.paypal("POST", f"/sales/{self.sales(jan.sub)[0]['id']}/refund")
            self.holds("Jan")
            self.shows("Jan", state="on_hold", text="The payment was refunded, so it gives no access.")

    def lost_cancel(self):
        with step("P8 of the dropped purchase we have found out ourselves; a cancellation that PayPal tells nobody of is found within a day"):
            self.holds("Nina", *BOTH)
            self.shows("Nina", state="active")
            olaf, renews = self.people["Olaf"], self.shows("Olaf", state="active")["renews_at"]
            self.sandbox.paypal("POST", "/faults", {"webhook": ".", "do": "lose"})
            olaf.at_paypal(olaf.sub, "Cancel automatic payment")
            self.sandbox.advance(DAY)
            self.shows("Olaf", state="ending", ends_at=renews)
            self.holds("Olaf", *BOTH)

    def payments_fail(self):
        with step("P9 just before the end of the paid time everybody who cancelled still has the roles"):
            for name in ("Hugo", "Iris"):
                self.unpaid(name)
            self.end = int(epoch(self.shows("Finn")["ends_at"]))
            self.sandbox.move_to(self.end - 30)
            time.sleep(3)   # a sweep or two
            check(self.sandbox.now() < self.end, "the pause was too long to tell")
            for name in ("Finn", "Mona", "Olaf", "Gita"):
                self.holds(name, *BOTH)

    def the_end(self):
        with step("P9 at the end their roles go, not before; who has gone on keeps them, and is charged then; others renew"):
            self.sandbox.move_to(self.end)
            for name in ("Finn", "Mona", "Olaf"):
                self.holds(name)
                check(self.taken_at(name) and min(self.taken_at(name)) >= self.end, f"{name}'s roles went {[t - self.end for t in self.taken_at(name)]} s after the end")
                self.shows(name, state="ended")
            self.sandbox.move_to(self.end + HOUR)
            same(len(self.sales(self.people["Gita"].sub)), 1, "how often the new subscription was charged")
            self.shows("Gita", state="active", begins_at=None)
            wait_for(lambda: epoch(self.shows("Nina", state="active")["renews_at"]) > self.end, SWEEP_WITHIN, "Nina's profile shows the next renewal")
            for name in ("Gita", "Nina"):
                self.holds(name, *BOTH)
                same(self.taken_at(name), [], f"how often a role was taken from {name}")

    def retries(self):
        with step("P10 a payment fails: grace with its end, the roles stay; PayPal's retry is paid: as if nothing had been"):
            until = self.end + GRACE_DAYS * DAY
            for name in ("Hugo", "Iris"):
                shown = self.shows(name, state="grace")
                same(epoch(shown["access_until"]), until, f"when {name}'s grace ends")
                self.holds(name, *BOTH)
            iris = self.people["Iris"]
            iris.at_paypal(iris.sub, "Change source of money", funding="good")
            self.sandbox.move_to(self.end + RETRY_DAYS[0] * DAY + HOUR)
            self.shows("Iris", state="active")
            self.shows("Hugo", state="grace")
            same(self.taken_at("Iris"), [], "how often a role was taken from Iris")

    def suspended(self):
        with step("P10 the last retry fails: SUSPENDED, the same grace, then its end; activated again: the roles are back"):
            hugo = self.people["Hugo"]
            self.sandbox.move_to(self.end + RETRY_DAYS[1] * DAY + HOUR)
            shown = self.shows("Hugo", status="suspended", state="grace")
            same((self.at("Hugo")["status"], epoch(shown["access_until"])), ("SUSPENDED", self.end + GRACE_DAYS * DAY), "what PayPal says, and the grace's end")
            self.holds("Hugo", *BOTH)
            self.sandbox.move_to(self.end + GRACE_DAYS * DAY)
            self.holds("Hugo")
            check(min(self.taken_at("Hugo")) >= self.end + GRACE_DAYS * DAY, "the roles went when the grace was over, not before")
            self.shows("Hugo", status="suspended", state="ended")
            self.sandbox.paypal("PATCH", f"/subscriptions/{hugo.sub}", {"funding": "good"})
            self.sandbox.paypal("POST", f"/subscriptions/{hugo.sub}/capture")
            self.sandbox.paypal("POST", f"/subscriptions/{hugo.sub}/activate", {"by": "merchant"})
            self.holds("Hugo", *BOTH)
            self.shows("Hugo", state="active")

    def at_once(self):
        with step("P11 cancel now, where the offer allows it: the roles go at once"):
            leo = self.people["Leo"]
            receipt = leo.cancel(leo.sub, now=True)
            same((receipt["next_charge"], receipt["access_until"]), ("none", None), "the receipt")
            self.holds("Leo")
            self.shows("Leo", state="ended")
            same(self.at("Leo")["status"], "CANCELLED", "what PayPal says")

    def goes_on(self):
        """After a restart: what was paid is still there, and can be cancelled."""
        iris, renews = self.people["Iris"], self.shows("Iris", state="active")["renews_at"]
        same(iris.cancel(iris.sub)["access_until"], renews, "access after a cancellation at PayPal")
        self.holds("Iris", *BOTH)
