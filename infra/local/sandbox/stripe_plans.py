"""Plan switches in the Stripe sandbox: now, with prorations, or at the period end through a subscription schedule.

docs.stripe.com/billing/subscriptions/change-price, docs.stripe.com/billing/subscriptions/subscription-schedules.
"""
import copy

from . import stripe_items as items
from .stripe_params import Refusal

LENGTHS = {"day": 1, "week": 7, "month": 30, "year": 365}


def shorter(new, old):
    """Whether the interval of price `new` is shorter than that of `old`."""
    days = [LENGTHS[p["recurring"]["interval"]] * p["recurring"]["interval_count"] for p in (new, old)]
    return days[0] < days[1]


class Plans:
    """Switches, and the schedules that carry out those of later."""

    def __init__(self, world, billing):
        self.world, self.billing = world, billing

    # now

    def switch(self, sub, wishes, *, proration="create_prorations"):
        """The items are as `wishes` ([{"id"?, "price"?, "deleted"?}], as in the API) say; what that costs now is billed and tried now."""
        with self.world.changing(sub, "customer.subscription.updated"):
            invoice = self.change(sub, wishes, proration)
        if invoice is not None:
            self.billing.collect(sub, invoice, at_once=True)

    def change(self, sub, wishes, proration):
        """The draft invoice that a switch makes, or None; the caller tells that `sub` changed."""
        self.check(sub, wishes)
        renewed, rate = [], 0 if proration == "none" or sub["status"] == "trialing" else 1
        for wish in wishes:
            if "id" not in wish:
                self._add(sub, self.world.find("price", wish["price"], "items[price]"), rate)
            elif wish.get("deleted"):
                self._remove(sub, self._entry(sub, wish["id"]), rate)
            elif "price" in wish:
                renewed += self._replace(sub, self._entry(sub, wish["id"]), self.world.find("price", wish["price"], "items[price]"), rate)
        self._follow(sub)
        if not renewed and (proration != "always_invoice" or not self.world.inside(sub["id"]).get("prorations")):
            return None
        invoice = self.billing.draft(sub, "subscription_update", paid_period=(self.world.now, self.world.now), entries=renewed)
        sub["latest_invoice"] = invoice["id"]
        return invoice

    def check(self, sub, wishes):
        """Refusal when the items cannot become what `wishes` say."""
        for wish in wishes:
            if wish.get("quantity", 1) != 1:
                raise Refusal(400, "This sandbox sells quantity 1.", code="sandbox_not_implemented", param="items[quantity]")
            if "id" not in wish and "price" not in wish:
                raise Refusal(400, "You must specify either a price or an id for each item.", param="items")
        gone = {wish["id"] for wish in wishes if wish.get("deleted")}
        chosen = {wish["id"]: wish["price"] for wish in wishes if "id" in wish and "price" in wish}
        for key in gone | chosen.keys():
            self._entry(sub, key)
        prices = [chosen.get(e["id"], e["price"]["id"]) for e in sub["items"]["data"] if e["id"] not in gone]
        prices += [wish["price"] for wish in wishes if "id" not in wish]
        if not prices:
            raise Refusal(400, "A subscription must have at least one active item.", param="items")
        known = {e["price"]["id"]: e["price"] for e in sub["items"]["data"] if e["id"] not in chosen}  # what is sold already may be inactive by now
        items.check_together([{**known[key], "active": True} if key in known else self.world.find("price", key, "items[price]") for key in prices],
                             flexible=sub["billing_mode"]["type"] == "flexible")

    @staticmethod
    def _entry(sub, key):
        for entry in sub["items"]["data"]:
            if entry["id"] == key:
                return entry
        raise Refusal(400, f"The subscription {sub['id']} has no item {key}.", code="resource_missing", param="items[id]")

    def _prorate(self, sub, entry, rate, words):
        if rate:
            items.prorate(self.world, sub, entry, amount=rate * items.amount_of(entry), words=words)

    def _add(self, sub, price, rate):
        end = sub["trial_end"] if sub["status"] == "trialing" else items.next_end(sub, self.world.now, {"price": price})
        self._prorate(sub, items.add_item(self.world, sub, price, start=self.world.now, end=end), rate, "Remaining time on")

    def _remove(self, sub, entry, rate):
        self._prorate(sub, entry, -rate, "Unused time on")
        sub["items"]["data"].remove(entry)
        sub["items"]["total_count"] = len(sub["items"]["data"])

    def _replace(self, sub, entry, price, rate):
        """[the item] when it begins a new period at once, as it does when its interval changes; else []."""
        if price["id"] == entry["price"]["id"]:
            return []
        old = items.interval_of(entry)
        self._prorate(sub, entry, -rate, "Unused time on")
        items.set_price(entry, price)
        if items.interval_of(entry) == old or sub["status"] == "trialing":
            self._prorate(sub, entry, rate, "Remaining time on")
            return []
        if len(sub["items"]["data"]) == 1:
            sub["billing_cycle_anchor"] = self.world.now
        entry |= {"current_period_start": self.world.now, "current_period_end": items.first_end(price, self.world.now)}
        return [entry]

    # at the period end

    def of(self, sub):
        """The schedule that manages `sub`, or None."""
        return self.world.state["objects"]["subscription_schedule"].get(sub["schedule"]) if sub["status"] != "canceled" else None

    def schedule(self, sub, price, entry=None):
        """The schedule by which the item (the first) sells `price` from its period end on; it lets go of `sub` a period later."""
        if sub["schedule"]:
            raise Refusal(400, f"The subscription already has the schedule `{sub['schedule']}`.")
        entry = entry or sub["items"]["data"][0]
        self.check(sub, [{"id": entry["id"], "price": price["id"]}])
        old = [e["price"]["id"] for e in sub["items"]["data"]]
        new = [price["id"] if e is entry else e["price"]["id"] for e in sub["items"]["data"]]
        change = entry["current_period_end"]
        same = items.interval_of(entry) == items.interval_of({"price": price})
        last = items.next_end(sub, change, entry) if same else items.first_end(price, change)
        made = schedule_object(sub, key="sub_sched_1" + self.world.draw(23), now=self.world.now, phases=[
            phase(sub, old, entry["current_period_start"], change), phase(sub, new, change, last)])
        with self.world.changing(sub, "customer.subscription.updated"):
            sub["schedule"] = made["id"]
        return self.world.add(made, "subscription_schedule.created")

    def begin_phase(self, sub):
        """What the schedule says of `sub` from now on is so; after its last phase it has let go. The caller tells that `sub` changed."""
        schedule = self.of(sub)
        if schedule is None or schedule["current_phase"]["end_date"] > self.world.now:
            return
        place = max(n for n, p in enumerate(schedule["phases"]) if p["start_date"] == schedule["current_phase"]["start_date"])
        following = next(iter(schedule["phases"][place + 1:]), None)
        if following is None:
            return self._let_go(sub, schedule)
        for entry, wanted in zip(sub["items"]["data"], following["items"], strict=True):
            if entry["price"]["id"] != wanted["price"]:
                old = items.interval_of(entry)
                items.set_price(entry, self.world.find("price", wanted["price"]))
                if items.interval_of(entry) != old and len(sub["items"]["data"]) == 1:
                    sub["billing_cycle_anchor"] = self.world.now
        with self.world.changing(schedule, "subscription_schedule.updated"):
            schedule["current_phase"] = {"start_date": following["start_date"], "end_date": following["end_date"]}
        return None

    def shorten_phase(self, sub):
        """The current phase ends now and the next begins, because the period does by order."""
        schedule = self.of(sub)
        if schedule is None:
            return
        before, now = schedule["current_phase"]["end_date"], self.world.now
        with self.world.changing(schedule, "subscription_schedule.updated"):
            schedule["current_phase"]["end_date"] = now
            for each in schedule["phases"]:
                if each["end_date"] == before:
                    each["end_date"] = now
                elif each["start_date"] == before:
                    price = self.world.find("price", each["items"][0]["price"])
                    each |= {"start_date": now, "end_date": items.first_end(price, now)}

    def release(self, sub):
        """No schedule manages `sub` any more; its items stay as they are (docs.stripe.com/api/subscription_schedules/release)."""
        schedule = self.of(sub)
        if schedule is not None:
            with self.world.changing(sub, "customer.subscription.updated"):
                self._let_go(sub, schedule)

    def _let_go(self, sub, schedule):
        sub["schedule"] = None
        with self.world.changing(schedule):
            schedule |= {"status": "released", "released_at": self.world.now, "released_subscription": sub["id"], "subscription": None,
                         "current_phase": None}
        self.world.emit("subscription_schedule.released", schedule)

    def ended(self, sub):
        """The schedule of a subscription that has ended is canceled."""
        schedule = self.world.state["objects"]["subscription_schedule"].get(sub["schedule"])
        if schedule is not None and schedule["status"] == "active":
            with self.world.changing(schedule):
                schedule |= {"status": "canceled", "canceled_at": self.world.now, "current_phase": None}
            self.world.emit("subscription_schedule.canceled", schedule)

    def _follow(self, sub):
        """A change made directly is what the current phase says from now on; later phases keep the items of before."""
        schedule = self.of(sub)
        if schedule is not None:
            with self.world.changing(schedule, "subscription_schedule.updated"):
                for each in schedule["phases"]:
                    if each["start_date"] == schedule["current_phase"]["start_date"]:
                        each["items"] = phase_items([e["price"]["id"] for e in sub["items"]["data"]])


def phase_items(prices):
    """The items of a phase that sells `prices` (ids)."""
    return [{"billing_thresholds": None, "discounts": [], "metadata": {}, "plan": key, "price": key, "quantity": 1, "tax_rates": []} for key in prices]


def phase(sub, prices, start, end):
    """A phase in which `sub` sells `prices` (ids)."""
    return {"add_invoice_items": [], "application_fee_percent": None, "billing_cycle_anchor": None, "billing_thresholds": None,
            "collection_method": None, "currency": sub["currency"], "default_payment_method": None, "default_tax_rates": [], "description": None,
            "discounts": [], "end_date": end, "invoice_settings": None, "items": phase_items(prices), "metadata": {}, "on_behalf_of": None,
            "proration_behavior": "none", "start_date": start, "transfer_data": None, "trial_end": None}


def schedule_object(sub, *, key, now, phases):
    """An active subscription schedule over `sub` that releases it in the end."""
    return {"id": key, "object": "subscription_schedule", "application": None, "billing_mode": copy.deepcopy(sub["billing_mode"]),
            "canceled_at": None, "completed_at": None, "created": now,
            "current_phase": {"start_date": phases[0]["start_date"], "end_date": phases[0]["end_date"]},
            "customer": sub["customer"], "customer_account": None,
            "default_settings": {"application_fee_percent": None, "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
                                 "billing_cycle_anchor": "automatic", "billing_thresholds": None, "collection_method": "charge_automatically",
                                 "default_payment_method": None, "default_source": None, "description": None,
                                 "invoice_settings": {"account_tax_ids": None, "days_until_due": None, "issuer": {"type": "self"}},
                                 "on_behalf_of": None, "transfer_data": None},
            "end_behavior": "release", "livemode": False, "metadata": {}, "pause_schedules": [], "phases": phases, "released_at": None,
            "released_subscription": None, "status": "active", "subscription": sub["id"], "test_clock": None}
