"""The one mechanism, on the real code: every order of two or three workers' outside calls, with deaths, lost answers and faults.

Each scenario is explored with a few preemptive switches, deaths and faults; the judge (tests/worlds/town.py) is asked before any
sweep and any look, again after every message has come again, and once more after the sweeps. Each shortcut that the design
warns of is then written into the product and must be found by one of the same explorations, before the sweeps.
"""

import contextlib
import importlib
import inspect
import textwrap
from functools import partial

import pytest
import requests

from tests.worlds import gates, processors
from tests.worlds.gates import explore
from tests.worlds.town import (
    DAY, GOLD, GOLD_PRICE, LEASE, OTHER_GOLD_PRICE, PASS_PRICE, SERVER, SILVER_PRICE, USER, Town,
)


def ends(town, subscription):
    town.stripe.change(subscription, status="canceled", ended_at=town.clock.now)


def becomes(town, run, subscription, status, event):
    """Stripe's subscription has this status from now on, and the event about it arrives."""
    if status == "canceled":
        ends(town, subscription)
    else:
        town.stripe.change(subscription, status=status)
    town.arrives(run, event, town.event(subscription, f"evt_{event}"))


def change(town, run, subscription, status, event):
    """One step of somebody outside: (label, function)."""
    return f"{subscription} becomes {status}", partial(becomes, town, run, subscription, status, event)


def refunded(town, run, charge, amount, event, *, late=False):
    """One step of somebody outside: so much of the charge is refunded from now on, and the event about it arrives (`late`: later)."""
    return f"{charge} has {amount} refunded", partial(_told, town, run, charge, partial(town.stripe.refund, charge, amount), event, late)


def disputed(town, run, charge, status, event, *, late=False):
    """One step of somebody outside: the charge's dispute is in this status, and the event about it arrives (`late`: later)."""
    return f"the dispute of {charge} is {status}", partial(_told, town, run, charge, partial(town.stripe.dispute, charge, status), event, late)


def _told(town, run, charge, moves, event, late):
    moves()
    message = town.event(charge, f"evt_{event}", TYPES.get(event))
    if late:
        town.comes_late(run, message)
    else:
        town.arrives(run, event, message)


def passes(town, run, seconds, *, first=lambda: None):
    """One step of somebody outside: what happens `first` is told by no event; time passes, and the sweep sends the member."""
    def happens():
        first()
        town.clock.now += seconds
        town.arrives(run, f"swept after {seconds}", town.visit("sweep"))
    return f"{seconds} seconds pass, and the sweep sends the member", happens


def answers_once(town, answer):
    """Discord's next answer is `answer(effect)`; `effect()` is what it would have been."""
    def call(method, path):
        del town.discord.call
        return answer(partial(town.discord.call, method, path))
    town.discord.call = call


def fails(what):
    """Faults: Stripe does not answer one of the reads of these."""
    return lambda worker, label: (gates.BROKEN,) if any(f"stripe GET /{one}" in label for one in what) else ()


TYPES = {"opened": "charge.dispute.created", "closed": "charge.dispute.closed"}


LINK_WRITES = ("PutItem rolekeep-local-links", "UpdateItem rolekeep-local-links")
LEDGER_WRITES = ("PutItem rolekeep-local-ledger", "UpdateItem rolekeep-local-ledger", "DeleteItem rolekeep-local-ledger")


# Scenarios: a function that prepares the town, and answers a Scenario and the budgets of its exploration

def ended_or_still_active(town):
    """An older event of a subscription is worked on while it ends."""
    # Rows: fault 4, fault 12, T13
    town.buy("sub_1", GOLD_PRICE)
    town.settle_down()

    def start(run):
        town.arrives(run, "renewed", town.event("sub_1", "evt_renewed"))
        town.happens(run, "stripe", change(town, run, "sub_1", "canceled", "ended"))

    return town.scenario("ended, or still active", start, late=True), {"preemptions": 2, "crashes": 2}


def granted_or_cancelled(town):
    """A subscription begins and is cancelled at once."""
    # Rows: fault 16
    town.buy("sub_1", GOLD_PRICE, status="incomplete")
    town.settle_down()

    def start(run):
        town.happens(run, "stripe", change(town, run, "sub_1", "active", "begun"), change(town, run, "sub_1", "canceled", "ended"))

    return town.scenario("granted, or cancelled", start, late=True), {"preemptions": 2, "crashes": 2}


def one_of_two_ends(town):
    """Two subscriptions pay for one role, one ends: the role stays, at every moment."""
    # Rows: fault 38, T28
    town.buy("sub_1", GOLD_PRICE)
    town.buy("sub_2", OTHER_GOLD_PRICE)
    town.settle_down()

    def start(run):
        run.notes["always"] = {GOLD}
        town.arrives(run, "renewed", town.event("sub_2", "evt_renewed"))
        town.happens(run, "stripe", change(town, run, "sub_1", "canceled", "ended"))

    return town.scenario("one of two ends", start), {"preemptions": 2, "crashes": 1}


def one_begins_before_the_other_ends(town):
    """The reason changes hands, and there is one at every moment: the role is never taken."""
    town.buy("sub_1", GOLD_PRICE, status="unpaid")
    town.buy("sub_2", OTHER_GOLD_PRICE)
    town.settle_down()

    def start(run):
        run.notes["always"] = {GOLD}
        town.arrives(run, "renewed", town.event("sub_2", "evt_renewed"))
        town.happens(run, "stripe", change(town, run, "sub_1", "active", "begun"), change(town, run, "sub_2", "canceled", "ended"))

    return town.scenario("one begins before the other ends", start), {"preemptions": 2, "crashes": 0}


def one_ends_before_the_other_begins(town):
    """The role goes and comes back."""
    town.buy("sub_1", GOLD_PRICE)
    town.buy("sub_2", OTHER_GOLD_PRICE, status="incomplete")
    town.settle_down()

    def start(run):
        town.happens(run, "stripe", change(town, run, "sub_1", "canceled", "ended"), change(town, run, "sub_2", "active", "begun"))

    return town.scenario("one ends before the other begins", start, late=True), {"preemptions": 2, "crashes": 1}


def both_end(town):
    """Two subscriptions of one role end in the same moment (fault_39)."""
    town.buy("sub_1", GOLD_PRICE)
    town.buy("sub_2", OTHER_GOLD_PRICE)
    town.settle_down()

    def start(run):
        town.happens(run, "stripe", change(town, run, "sub_1", "canceled", "first"), change(town, run, "sub_2", "canceled", "second"))

    return town.scenario("both end", start), {"preemptions": 2, "crashes": 1}


def delivered_twice(town):
    """One event is delivered twice, and the subscription ends in between."""
    town.buy("sub_1", GOLD_PRICE, status="incomplete")
    town.settle_down()
    town.stripe.change("sub_1", status="active")

    def again(run):
        ends(town, "sub_1")
        town.arrives(run, "second", town.event("sub_1", "evt_begun"))

    def start(run):
        town.arrives(run, "first", town.event("sub_1", "evt_begun"))
        town.happens(run, "stripe", ("sub_1 ends, and the first event comes again", partial(again, run)))

    return town.scenario("delivered twice", start), {"preemptions": 2, "crashes": 1}


def a_new_one_while_another_ends(town):
    """A subscription that only its checkout intent knows arrives, while another of the member's ends."""
    town.buy("sub_1", GOLD_PRICE)
    town.settle_down()
    town.check_out("sub_2", SILVER_PRICE)

    def start(run):
        town.arrives(run, "created", town.event("sub_2", "evt_created"))
        town.happens(run, "stripe", change(town, run, "sub_1", "canceled", "ended"))

    return town.scenario("a new one while another ends", start, loud=("links",)), {"preemptions": 2, "crashes": 1}


def two_events_of_a_new_one(town):
    """The first two events of the member's first subscription arrive together; there is no row yet."""
    town.check_out("sub_1", GOLD_PRICE)

    def start(run):
        town.arrives(run, "created", town.event("sub_1", "evt_created"))
        town.arrives(run, "completed", town.event("sub_1", "evt_completed"))

    return town.scenario("two events of a new one", start, loud=("links",)), {"preemptions": 1, "crashes": 1}


def discord_is_busy(town):
    """Discord answers 429 or 500 once; the member asks for the role at the same time."""
    town.buy("sub_1", GOLD_PRICE, status="incomplete")
    town.buy("sub_2", SILVER_PRICE)
    town.settle_down()
    town.stripe.change("sub_1", status="active")
    ends(town, "sub_2")

    def faults(worker, label):
        return (gates.LIMITED, gates.BROKEN) if "discord" in label else ()

    def start(run):
        town.arrives(run, "begun", town.event("sub_1", "evt_begun"))
        town.arrives(run, "restore", town.visit("member:restore", look=True))

    return (town.scenario("Discord is busy", start, loud=("servers",), faults=faults),
            {"preemptions": 1, "crashes": 1, "faults": 1})


def the_strip_is_refused(town):
    """Discord refuses to take the role: nobody may say that it is gone."""
    town.buy("sub_1", GOLD_PRICE)
    town.settle_down()
    town.discord.untouchable[GOLD] = 50013

    def start(run):
        town.arrives(run, "renewed", town.event("sub_1", "evt_renewed"))
        town.happens(run, "stripe", change(town, run, "sub_1", "canceled", "ended"))

    return town.scenario("the strip is refused", start), {"preemptions": 2, "crashes": 1}


def the_grant_is_refused(town):
    """Discord refuses to give the role: nobody may say that it is held."""
    town.buy("sub_1", GOLD_PRICE, status="incomplete")
    town.settle_down()
    town.discord.untouchable[GOLD] = 50013

    def start(run):
        town.arrives(run, "older", town.event("sub_1", "evt_older"))
        town.happens(run, "stripe", change(town, run, "sub_1", "active", "begun"))

    return town.scenario("the grant is refused", start), {"preemptions": 2, "crashes": 1}


def refused_once(town):
    """Discord refuses one call, and the subscription ends or goes on."""
    town.buy("sub_1", GOLD_PRICE, status="incomplete")
    town.settle_down()

    def faults(worker, label):
        return (gates.FORBIDDEN,) if "discord" in label else ()

    def start(run):
        town.happens(run, "stripe", change(town, run, "sub_1", "active", "begun"), change(town, run, "sub_1", "canceled", "ended"))

    return town.scenario("refused once", start, faults=faults), {"preemptions": 2, "crashes": 1, "faults": 1}


def the_answer_is_late(town):
    """A call to Discord times out, with its effect before, later, or much later; meanwhile the subscription ends."""
    # Rows: fault 13, T14
    town.buy("sub_1", GOLD_PRICE, status="incomplete")
    town.settle_down()

    def faults(worker, label):
        return (gates.TIME_OUT, gates.TIME_OUT_LATER) if "discord" in label else ()

    def start(run):
        town.happens(run, "stripe", change(town, run, "sub_1", "active", "begun"), change(town, run, "sub_1", "canceled", "ended"))

    return town.scenario("the answer is late", start, faults=faults), {"preemptions": 2, "crashes": 1, "faults": 1}


def restored_while_somebody_works(town):
    """A role was taken by hand; the member asks for it back while an event is worked on."""
    town.buy("sub_1", GOLD_PRICE)
    town.settle_down()
    town.discord.held.clear()

    def start(run):
        town.arrives(run, "renewed", town.event("sub_1", "evt_renewed"))
        town.arrives(run, "restore", town.visit("member:restore", look=True))

    return town.scenario("restored while somebody works", start), {"preemptions": 2, "crashes": 1}


def the_end_is_taken_back(town):
    """The announced end comes, but the member had taken it back just before: the stored end is no longer true."""
    town.buy("sub_1", GOLD_PRICE, cancel_at=town.clock.now + 5_000)
    town.settle_down()
    town.clock.now += 4_990

    def undone(run):
        town.stripe.change("sub_1", cancel_at=None)
        town.arrives(run, "undone", town.event("sub_1", "evt_undone"))

    def passes():
        town.clock.now += 20

    def start(run):
        run.notes["always"] = {GOLD}
        town.happens(run, "stripe", ("sub_1's end is taken back", partial(undone, run)), ("its old end passes", passes),
                     ("the sweep sends the member", lambda: town.arrives(run, "swept", town.visit("sweep"))))

    return town.scenario("the end is taken back", start), {"preemptions": 2, "crashes": 1}


def it_ends_unseen(town):
    """The period ends while somebody works, the renewal fails for good, and no event ever tells."""
    town.buy("sub_1", GOLD_PRICE)
    town.clock.now += DAY
    town.buy("sub_2", SILVER_PRICE)
    town.settle_down()
    town.clock.now += 29 * DAY - 10
    town.visit("sweep")()

    def passes():
        town.clock.now += 20
        ends(town, "sub_1")

    def start(run):
        town.arrives(run, "renewed", town.event("sub_1", "evt_renewed"))
        town.happens(run, "stripe", ("the period ends, and no event tells", passes))

    return town.scenario("it ends unseen", start), {"preemptions": 2, "crashes": 1}


def stripe_fails(town):
    """Stripe does not answer one of the reads: unknown strips nobody."""
    town.buy("sub_1", GOLD_PRICE)
    town.buy("sub_2", SILVER_PRICE)
    town.settle_down()

    def faults(worker, label):
        return (gates.BROKEN,) if "stripe GET" in label else ()

    def start(run):
        run.notes["always"] = {GOLD}
        town.arrives(run, "renewed", town.event("sub_1", "evt_renewed"))
        town.happens(run, "stripe", change(town, run, "sub_2", "canceled", "ended"))

    return town.scenario("Stripe fails", start, faults=faults), {"preemptions": 1, "crashes": 1, "faults": 1}


def the_member_leaves_and_comes_back(town):
    """The member leaves the server while the role is granted, comes back, and asks for it."""
    # Rows: fault 35
    town.buy("sub_1", GOLD_PRICE, status="incomplete")
    town.settle_down()
    town.stripe.change("sub_1", status="active")

    def back(run):
        town.discord.members.add((SERVER, USER))
        town.arrives(run, "restore", town.visit("member:restore", look=True))

    def start(run):
        town.arrives(run, "begun", town.event("sub_1", "evt_begun"))
        town.happens(run, "member", ("the member leaves", lambda: town.discord.leaves(SERVER, USER)),
                     ("the member comes back and asks", partial(back, run)))

    return town.scenario("the member leaves and comes back", start), {"preemptions": 2, "crashes": 1}


def the_database_falters(town):
    """One write of the row is done twice, throttled, lost, or lands later."""
    # Rows: fault 17
    town.buy("sub_1", GOLD_PRICE, status="incomplete")
    town.settle_down()

    def faults(worker, label):
        if "UpdateItem rolekeep-local-members" in label:
            return gates.TWICE, gates.TWICE_LATER, gates.TIME_OUT, gates.TIME_OUT_LATER, gates.THROTTLED
        return ()

    def start(run):
        town.happens(run, "stripe", change(town, run, "sub_1", "active", "begun"), change(town, run, "sub_1", "canceled", "ended"))

    return (town.scenario("the database falters", start, faults=faults, late=True),
            {"preemptions": 2, "crashes": 0, "faults": 1})


def an_old_save_arrives(town):
    """A save that the SDK sent twice arrives once more, after the next round's save; then the worker dies."""
    town.buy("sub_1", GOLD_PRICE)
    town.buy("sub_2", SILVER_PRICE, status="incomplete")
    town.settle_down()

    def over(run):
        ends(town, "sub_2")
        town.comes_late(run, town.event("sub_2", "evt_over"))

    def start(run):
        town.happens(run, "stripe", change(town, run, "sub_1", "canceled", "ended"), change(town, run, "sub_2", "active", "begun"),
                     ("sub_2 ends, and its event is late", partial(over, run)))

    def faults(worker, label):
        return (gates.TWICE_LATER,) if worker == "ended" and "UpdateItem rolekeep-local-members" in label else ()

    def deaths(worker, label):
        return worker == "ended" and "discord PUT" in label

    return (town.scenario("an old save arrives", start, faults=faults, deaths=deaths),
            {"preemptions": 1, "crashes": 1, "faults": 1})


def swept_while_an_event_comes(town):
    """The sweep sends a member who is due, while an event about them is worked on."""
    # Rows: fault 58, T17
    town.buy("sub_1", GOLD_PRICE)
    town.settle_down()
    town.clock.now = town.row()["due_at"]
    ends(town, "sub_1")

    def sweep():
        from chalicelib import sweep
        sweep.due(remaining=lambda: 60, limit=60)

    def start(run):
        town.arrives(run, "ended", town.event("sub_1", "evt_ended"))
        town.arrives(run, "sweep", sweep)

    return town.scenario("swept while an event comes", start), {"preemptions": 2, "crashes": 2}


def in_doubt_then_refused(town):
    """A grant timed out after its effect; the next one is refused, which says nothing about the first; then it ends."""
    town.buy("sub_1", GOLD_PRICE, status="incomplete")
    town.settle_down()
    town.stripe.change("sub_1", status="active")

    def times_out(effect):
        effect()
        raise requests.ReadTimeout

    answers_once(town, times_out)
    town.event("sub_1", "evt_begun")()
    town.clock.now += LEASE + 1

    def start(run):
        town.arrives(run, "swept", town.visit("sweep"))
        town.happens(run, "stripe", change(town, run, "sub_1", "canceled", "ended"))

    return (town.scenario("in doubt, then refused", start, faults=lambda worker, label: (gates.FORBIDDEN,) if "discord" in label else ()),
            {"preemptions": 1, "crashes": 1, "faults": 1})


def refunded_while_somebody_works(town):
    """What paid for the role is refunded while an older event of the subscription is worked on (fault_42)."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.settle_down()

    def start(run):
        town.arrives(run, "renewed", town.event("sub_1", "evt_renewed"))
        town.happens(run, "stripe", refunded(town, run, "ch_1", 500, "refunded"))

    return town.scenario("refunded while somebody works", start, late=True), {"preemptions": 2, "crashes": 1}


def refunded_while_another_ends(town):
    """A subscription ends, another of the member's is refunded: each in a message of its own, each seen (fault_42)."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.buy("sub_2", SILVER_PRICE)
    town.settle_down()

    def start(run):
        town.happens(run, "stripe", change(town, run, "sub_2", "canceled", "ended"), refunded(town, run, "ch_1", 500, "refunded"))

    return town.scenario("refunded while another ends", start), {"preemptions": 1, "crashes": 1}


def the_refund_fails(town):
    """A refund is made, and comes back; its own event is late (fault_42)."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.settle_down()

    def start(run):
        town.arrives(run, "renewed", town.event("ch_1", "evt_renewed"))
        town.happens(run, "stripe", refunded(town, run, "ch_1", 500, "refunded", late=True), refunded(town, run, "ch_1", 0, "failed"))

    return town.scenario("the refund fails", start, deaths=lambda worker, label: worker == "failed"), {"preemptions": 1, "crashes": 1}


def it_is_refunded_again(town):
    """A refund has come back, and the money is sent again."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.stripe.refund("ch_1", 500)
    town.settle_down()

    def start(run):
        town.happens(run, "stripe", refunded(town, run, "ch_1", 0, "failed"), refunded(town, run, "ch_1", 500, "refunded"))

    return town.scenario("it is refunded again", start), {"preemptions": 2, "crashes": 1}


def the_dispute_is_won(town):
    """A dispute is opened and won, and the event of its end comes first (fault_43)."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.settle_down()

    def start(run):
        town.arrives(run, "renewed", town.event("ch_1", "evt_renewed"))
        town.happens(run, "stripe", disputed(town, run, "ch_1", "needs_response", "opened", late=True), disputed(town, run, "ch_1", "won", "closed"))

    return town.scenario("the dispute is won", start, deaths=lambda worker, label: worker == "closed"), {"preemptions": 1, "crashes": 1}


def the_charge_cannot_be_read(town):
    """Stripe does not answer for a charge that was refunded: it is asked about again, and nobody is stripped for it meanwhile."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.buy("sub_2", SILVER_PRICE, charge="ch_2")
    town.settle_down()

    def start(run):
        run.notes["always"] = {GOLD}
        town.arrives(run, "older", town.event("ch_1", "evt_older"))
        town.happens(run, "stripe", refunded(town, run, "ch_2", 100, "refunded"))

    return (town.scenario("the charge cannot be read", start, faults=fails(["charges"]), deaths=lambda worker, label: worker == "refunded"),
            {"preemptions": 1, "crashes": 1, "faults": 1})


def disputed_and_not_to_be_read(town):
    """While a dispute is open Stripe does not answer for it, or for its charge: access stays held until it is won."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.stripe.dispute("ch_1", "needs_response")
    town.settle_down()

    def start(run):
        town.arrives(run, "renewed", town.event("sub_1", "evt_renewed"))
        town.happens(run, "stripe", disputed(town, run, "ch_1", "under_review", "opened"))

    return (town.scenario("disputed, and not to be read", start, faults=fails(["charges", "disputes"]),
                          deaths=lambda worker, label: worker == "opened"),
            {"preemptions": 1, "crashes": 1, "faults": 1})


def one_is_refunded_while_the_other_ends(town):
    """Two subscriptions pay for one role; one is refunded while the other ends."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.buy("sub_2", OTHER_GOLD_PRICE)
    town.settle_down()

    def start(run):
        town.happens(run, "stripe", refunded(town, run, "ch_1", 500, "refunded"), change(town, run, "sub_2", "canceled", "ended"))

    return town.scenario("one is refunded while the other ends", start), {"preemptions": 1, "crashes": 0}


def one_is_won_before_the_other_is_opened(town):
    """The reason changes hands, and there is one at every moment: a dispute is won, then another subscription's is opened (fault_43)."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.buy("sub_2", OTHER_GOLD_PRICE, charge="ch_2")
    town.stripe.dispute("ch_1", "needs_response")
    town.settle_down()

    def start(run):
        run.notes["always"] = {GOLD}
        town.arrives(run, "renewed", town.event("ch_2", "evt_renewed"))
        town.happens(run, "stripe", disputed(town, run, "ch_1", "won", "closed"), disputed(town, run, "ch_2", "needs_response", "opened"))

    return town.scenario("one is won before the other is opened", start), {"preemptions": 1, "crashes": 0}


def refunded_while_discord_is_closed(town):
    """The member waits because Discord answered 429; a refund is asked about meanwhile, perhaps in vain, and then the sweep sends them."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.buy("sub_2", SILVER_PRICE)
    town.settle_down()
    ends(town, "sub_2")
    answers_once(town, lambda effect: processors.discord_limited(30))
    town.event("sub_2", "evt_ended")()

    def start(run):
        town.happens(run, "stripe", refunded(town, run, "ch_1", 500, "refunded"), passes(town, run, 31))

    return (town.scenario("refunded while Discord is closed", start, loud=("servers",), faults=fails(["charges"])),
            {"preemptions": 1, "crashes": 0, "faults": 1})


def refunded_before_anybody_has_seen_it(town):
    """The first two events of a subscription are that it was made, and that it was refunded; nothing leads to either yet (fault_42)."""
    town.check_out("sub_1", GOLD_PRICE, charge="ch_1")

    def start(run):
        town.arrives(run, "created", town.event("sub_1", "evt_created"))
        town.happens(run, "stripe", refunded(town, run, "ch_1", 500, "refunded"))

    return (town.scenario("refunded before anybody has seen it", start, loud=LINK_WRITES, deaths=lambda worker, label: worker == "refunded"),
            {"preemptions": 1, "crashes": 1})


def bought_once_and_refunded_at_once(town):
    """A purchase that only its checkout intent knows is refunded before it has been seen."""
    town.check_out("cs_test_1", PASS_PRICE, charge="ch_1")

    def start(run):
        town.arrives(run, "bought", town.event("cs_test_1", "evt_bought"))
        town.happens(run, "stripe", refunded(town, run, "ch_1", 500, "refunded"))

    return town.scenario("bought once, and refunded at once", start, loud=LINK_WRITES), {"preemptions": 1, "crashes": 0}


def a_purchase_is_refunded_unseen(town):
    """A purchase is refunded and no event tells: its own reading does, when the daily look comes."""
    town.buy_once("cs_test_1", PASS_PRICE, charge="ch_1")
    town.settle_down()

    def start(run):
        town.arrives(run, "older", town.event("cs_test_1", "evt_older"))
        town.happens(run, "stripe", passes(town, run, DAY, first=lambda: town.stripe.refund("ch_1", 500)))

    return town.scenario("a purchase is refunded unseen", start, deaths=lambda worker, label: worker != "older"), {"preemptions": 1, "crashes": 1}


def a_dispute_is_won_unseen(town):
    """A dispute ends and no event tells: while it is open every look at the member asks about it."""
    town.buy("sub_1", GOLD_PRICE, charge="ch_1")
    town.stripe.dispute("ch_1", "needs_response")
    town.settle_down()

    def start(run):
        town.arrives(run, "older", town.event("sub_1", "evt_older"))
        town.happens(run, "stripe", passes(town, run, DAY, first=lambda: town.stripe.dispute("ch_1", "won")))

    return town.scenario("a dispute is won unseen", start), {"preemptions": 1, "crashes": 0}


def the_days_are_over(town):
    """The days of a purchase end while somebody works, and another is bought; no event tells of the end."""
    town.buy_once("cs_test_1", PASS_PRICE, charge="ch_1")
    town.clock.now += 30 * DAY - 10
    town.settle_down()
    town.buy("sub_2", SILVER_PRICE)

    def start(run):
        town.arrives(run, "begun", town.event("sub_2", "evt_begun"))
        town.happens(run, "clock", passes(town, run, 20))

    return town.scenario("the days are over", start), {"preemptions": 1, "crashes": 0}


def switched_while_discord_is_down(town):
    """The plan is switched while Discord answers 500 now and then: the old role stays until the new one is there."""
    town.buy("sub_1", GOLD_PRICE)
    town.settle_down()
    items = town.stripe.subscriptions["sub_1"]["items"]
    item = items["data"][0]
    switched = items | {"data": [item | {"price": item["price"] | {"id": SILVER_PRICE}}]}

    def switch(run):
        town.stripe.change("sub_1", items=switched)
        town.arrives(run, "switched", town.event("sub_1", "evt_switched"))

    def start(run):
        run.notes["never bare"] = True
        town.happens(run, "stripe", ("the plan is switched", partial(switch, run)),
                     ("another event comes", lambda: town.arrives(run, "renewed", town.event("sub_1", "evt_renewed"))))

    return (town.scenario("switched while Discord is down", start, faults=lambda worker, label: (gates.BROKEN,) if "discord PUT" in label else ()),
            {"preemptions": 1, "crashes": 1, "faults": 1})


def erased_while_somebody_works(town):
    """A subscription ends, and its member asks to be erased while that is worked on; nothing sent before may land after it."""
    town.buy("sub_1", GOLD_PRICE)
    town.settle_down()

    def start(run):
        run.notes["erased"] = True
        town.happens(run, "stripe", change(town, run, "sub_1", "canceled", "ended"),
                     ("the member asks to be erased", lambda: town.arrives(run, "erase", town.erase())))

    return town.scenario("erased while somebody works", start, late=True), {"preemptions": 2, "crashes": 1}


def erased_before_it_is_granted(town):
    """A member asks to be erased while the role of a purchase is being granted: what was sent may land, and is taken then."""
    from chalicelib.store import members
    members.create(user=USER, server=SERVER, now=town.clock.now)    # as the button does
    town.buy_once("cs_test_1", PASS_PRICE, charge="ch_1")

    def start(run):
        run.notes["erased"] = True
        town.arrives(run, "bought", town.event("cs_test_1", "evt_bought"))
        town.happens(run, "member", ("the member asks to be erased", lambda: town.arrives(run, "erase", town.erase())))

    return (town.scenario("erased before it is granted", start, late=True, deaths=lambda worker, label: worker == "bought"),
            {"preemptions": 1, "crashes": 1})


def erased_and_a_late_webhook(town):
    """While the ledger and the links are made nameless the worker may die at each write, and events of the purchase come late."""
    town.buy_once("cs_test_1", PASS_PRICE, charge="ch_1")
    town.settle_down()

    def start(run):
        run.notes["erased"] = True
        town.arrives(run, "erase", town.erase())
        town.happens(run, "stripe", ("an event is late", lambda: town.arrives(run, "late", town.event("cs_test_1", "evt_late"))))

    nameless = (*LEDGER_WRITES, *LINK_WRITES)
    return (town.scenario("erased, and a late webhook", start, loud=nameless,
                          deaths=lambda worker, label: worker == "erase" and any(one in label for one in (*nameless, "PutItem"))),
            {"preemptions": 1, "crashes": 1})


def the_strip_is_refused_to_who_is_erased(town):
    """Discord refuses to take the role: whoever it is cannot be forgotten before it is gone."""
    town.buy_once("cs_test_1", PASS_PRICE, charge="ch_1")
    town.settle_down()
    town.discord.untouchable[GOLD] = 50013

    def start(run):
        run.notes["erased"] = True
        town.arrives(run, "erase", town.erase())
        town.arrives(run, "older", town.event("cs_test_1", "evt_older"))

    return town.scenario("the strip is refused to who is erased", start), {"preemptions": 1, "crashes": 1}


def erased_while_the_sweep_comes(town):
    """The sweep sends a member who is due, while they are being erased."""
    town.buy("sub_1", GOLD_PRICE)
    town.settle_down()
    town.clock.now = town.row()["due_at"]
    ends(town, "sub_1")

    def sweep():
        from chalicelib import sweep
        sweep.due(remaining=lambda: 60, limit=60)

    def start(run):
        run.notes["erased"] = True
        town.arrives(run, "erase", town.erase())
        town.arrives(run, "sweep", sweep)

    return town.scenario("erased while the sweep comes", start), {"preemptions": 2, "crashes": 1}


def asked_twice_to_be_erased(town):
    """The wish is uttered twice: it is one erasure, under one pseudonym."""
    town.buy_once("cs_test_1", PASS_PRICE, charge="ch_1")
    town.settle_down()

    def start(run):
        run.notes["erased"] = True
        town.arrives(run, "erase", town.erase())
        town.arrives(run, "again", town.erase())

    return town.scenario("asked twice to be erased", start), {"preemptions": 2, "crashes": 1}


def bought_again_after_being_erased(town):
    """Somebody comes back after being erased; what was sent for the old row lands now, and the wish to be erased comes again."""
    town.buy("sub_1", GOLD_PRICE)
    town.settle_down()
    ends(town, "sub_1")
    erase = town.erase()

    def back(run):
        town.clock.now += 10
        if town.come_back("sub_2", GOLD_PRICE):
            run.notes["back"] = True
            town.arrives(run, "created", town.event("sub_2", "evt_created"))
        town.arrives(run, "once more", erase)
        town.comes_late(run, town.event("sub_1", "evt_late"))

    def start(run):
        town.arrives(run, "erase", erase)
        town.happens(run, "member", passes(town, run, LEASE + 1), passes(town, run, LEASE + 2),
                     ("the member buys again, and old messages come again", partial(back, run)))

    return (town.scenario("bought again after being erased", start, late=True,
                          deaths=lambda worker, label: worker == "erase" and "PutItem rolekeep-local-members" in label),
            {"preemptions": 0, "crashes": 1})


SCENARIOS = [
    ended_or_still_active, granted_or_cancelled, one_of_two_ends, one_begins_before_the_other_ends,
    one_ends_before_the_other_begins, both_end, delivered_twice, a_new_one_while_another_ends, two_events_of_a_new_one,
    discord_is_busy, the_strip_is_refused, the_grant_is_refused, refused_once, the_answer_is_late,
    restored_while_somebody_works, the_end_is_taken_back, it_ends_unseen, stripe_fails, the_member_leaves_and_comes_back,
    the_database_falters, an_old_save_arrives, swept_while_an_event_comes, in_doubt_then_refused,
    refunded_while_somebody_works, refunded_while_another_ends, the_refund_fails, it_is_refunded_again, the_dispute_is_won,
    the_charge_cannot_be_read, disputed_and_not_to_be_read, one_is_refunded_while_the_other_ends,
    one_is_won_before_the_other_is_opened, refunded_while_discord_is_closed, refunded_before_anybody_has_seen_it,
    bought_once_and_refunded_at_once, a_purchase_is_refunded_unseen, a_dispute_is_won_unseen, the_days_are_over,
    switched_while_discord_is_down,
    erased_while_somebody_works, erased_before_it_is_granted, erased_and_a_late_webhook, the_strip_is_refused_to_who_is_erased,
    erased_while_the_sweep_comes, asked_twice_to_be_erased, bought_again_after_being_erased,
]


@pytest.mark.parametrize("prepare", SCENARIOS, ids=lambda prepare: prepare.__name__)
def test_every_schedule_ends_right(prepare):
    # Rows: T15
    with Town().open() as town:
        scenario, budgets = prepare(town)
        report = explore(scenario, **budgets)
    print(report)
    assert not report.violations, report
    assert report.schedules + report.pruned > 10


# Shortcuts: each written into the product by replacing a few words, and the exploration that must find it


@contextlib.contextmanager
def rewritten(function, *changes):
    """The named function of the product ("chalicelib.module:name" or "...:Class.name") reads differently in the block.

    `changes` are (words, other words); words that no longer stand there exactly once are an error: the shortcut must then be
    written anew.
    """
    module, _, path = function.partition(":")
    *owners, name = path.split(".")
    owner = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    before = getattr(owner, name)
    source = textwrap.dedent(inspect.getsource(before))
    for words, others in changes:
        assert source.count(words) == 1, f"{function}: these words stand there {source.count(words)} times: {words}"
        source = source.replace(words, others)
    made = {}
    exec(compile(source, f"<{function}, rewritten>", "exec"), before.__globals__, made)
    setattr(owner, name, made[name])
    try:
        yield
    finally:
        setattr(owner, name, before)


ROUND, MEMBERS, PLAN = "chalicelib.reconcile:_Round.", "chalicelib.store.members:", "chalicelib.domain.plan:"
WHOLE_SUBS = "Membership.subs.set({key: sub.facts() for key, sub in (row.subs | {sub.key: sub for sub in facts}).items()}),"
CALL_AGAIN = ("answer = call(server=self.row.server, user=self.row.user, role=role, deadline=self.deadline, reason='again') "
              "if isinstance(answer, InDoubt) else answer; ")
DONE = 'if isinstance(answer, Done) or '
WHOLE_HOLDS = "Membership.holds.set({key: hold.facts() for key, hold in (row.holds | {hold.key: hold for hold in holds}).items()}),"
NO_LOOKUPS = "Membership.lookups.remove(), "
OVER = "if rules.over(known, self.server, self.clock):"

# name: (scenario, {function: changes}); the first twenty-two are the design's table, in its order
SHORTCUTS = {
    "held roles are skipped without moving strips to may": (one_ends_before_the_other_begins, {
        PLAN + "saved": [("in plan.touched", "in plan.grants")]}),
    "no save before a round that only strips": (one_ends_before_the_other_begins, {
        ROUND + "_apply": [("saved = members.save(self.row, roles=rules.saved(before, plan), facts=self.facts, holds=self.asked)",
                            "saved = members.save(self.row, roles=rules.saved(before, plan), facts=self.facts, holds=self.asked) "
                            "if plan.grants else replace(self.row, roles=rules.saved(before, plan))")]}),
    "no may": (granted_or_cancelled, {PLAN + "saved": [("return roles | ", "return roles; roles | ")]}),
    "finish ignores requested": (ended_or_still_active, {
        MEMBERS + "finish": [("_ours(row) & (Membership.requested == row.requested)", "_ours(row)")]}),
    "no lease: whoever comes takes it": (granted_or_cancelled, {
        MEMBERS + "request": [("Membership.lease | {", "{")]}),
    "only the message's subscription is fetched": (both_end, {
        "chalicelib.reconcile:_work": [("work = _Round(", "_Round.only = look.subscription; work = _Round(")],
        ROUND + "_fetch": [(OVER, "if self.only not in (None, key) or " + OVER.removeprefix("if "))]}),
    "the whole map of subscriptions is saved": (a_new_one_while_another_ends, {
        MEMBERS + "save": [("*_facts(facts),", WHOLE_SUBS)], MEMBERS + "finish": [("*_facts(facts),", WHOLE_SUBS)]}),
    "the link is written after the request": (a_new_one_while_another_ends, {
        "chalicelib.worker:_identify": [("links.link_subscription(key, ", "dict(")],
        "chalicelib.worker:_look_at": [
            ("reconcile(Look(found.user, found.server, _cause(message[\"event\"], message), subscription=key, hold=hold,\n"
             "                       bound_at=found.made_at), deadline=deadline)",
             "reconcile(Look(found.user, found.server, message['event'], subscription=key), deadline=deadline); links.link_subscription("
             "key, user=found.user, server=found.server, offer=found.offer, account=account, now=ports.now())")]}),
    "after a time-out the lease is released": (the_answer_is_late, {
        ROUND + "_answered": [("return lambda: IN_DOUBT", "return lambda: self.pause(self._later(60))")]}),
    "after a time-out the call is made again": (the_answer_is_late, {
        ROUND + "_call": [("answers[role] = verb, answer", CALL_AGAIN + "answers[role] = verb, answer")]}),
    "finish writes held = wanted despite refusals": (the_strip_is_refused, {
        ROUND + "_finish": [("rules.tidy(self.roles, self.wants)", "{role: rules.Role(rules.HELD) for role in self.wants}")]}),
    "a refused grant is recorded as held": (the_grant_is_refused, {
        ROUND + "_answered": [(DONE, DONE + "verb == GRANT and isinstance(answer, Refused) or ")]}),
    "a refused strip is recorded as done": (the_strip_is_refused, {
        ROUND + "_answered": [(DONE, DONE + "verb == STRIP and isinstance(answer, Refused) or ")]}),
    "a request does not write when it is due": (ended_or_still_active, {
        MEMBERS + "request": [("Membership.due_at.set(now + lease_seconds),", "")]}),
    "a pause does not write when it is due": (discord_is_busy, {
        MEMBERS + "pause": [("*_due(row, due_at), ", "*_due(row, None), ")]}),
    "a request keeps a later due time": (ended_or_still_active, {
        MEMBERS + "request": [("Membership.due_at.set(now + lease_seconds)",
                               "Membership.due_at.set(Membership.due_at | (now + lease_seconds))")]}),
    "the token is the message's id": (delivered_twice, {
        "chalicelib.reconcile:_take": [("token = ports.token()", "token = look.cause")]}),
    "no step": (an_old_save_arrives, {
        MEMBERS + "_ours": [(' & (Membership.lease["step"] == row.lease["step"])', "")]}),
    "restore stands only in the message": (restored_while_somebody_works, {
        "chalicelib.reconcile:_take": [("look=look.look)", "look=False)")],
        "chalicelib.reconcile:_work": [("row = _take(look)", "row = _take(look); row = row and replace(row, look=look.look)")]}),
    "a stored end is trusted": (the_end_is_taken_back, {
        ROUND + "_fetch": [(OVER, "if known.scheduled and known.scheduled_end <= self.clock or " + OVER.removeprefix("if "))]}),
    "unknown counts as inactive": (stripe_fails, {ROUND + "_fetch": [("self.unread.append(known)", "pass")]}),
    "what a request brings is a second write": (a_new_one_while_another_ends, {
        MEMBERS + "request": [("actions.append(path.set(path | Subscription(key=subscription).facts()))",
                               "brings = [path.set(path | Subscription(key=subscription).facts())]"),
                              ("    return row", "    if subscription:\n        _update(user, server, brings, Membership.requested.exists())\n"
                               "    return row")]}),
    # further rules of the mechanism
    "the earlier readings are not made again before a strip": (one_begins_before_the_other_ends, {
        ROUND + "_held_at_one_instant": [("return all(", "return True or all(")]}),
    "the clock is read after the fetch": (it_ends_unseen, {
        ROUND + "run": [("self._fetch()", "self._fetch(); self.clock = ports.now()")]}),
    "whoever takes over does not look again": (granted_or_cancelled, {
        MEMBERS + "take_over": [("Membership.look_at.set(now + lease_seconds),", "")]}),
    "a refused grant leaves nothing behind": (in_doubt_then_refused, {
        PLAN + "refused": [("untouched = before.get(role, Role()).state == ABSENT", "untouched = True")]}),
    # erasing
    "a tombstone is written without a condition": (bought_again_after_being_erased, {
        MEMBERS + "bury": [("item.save(_ours(row) & (Membership.requested == row.requested))", "item.save()")]}),
    "a member is forgotten before Discord has agreed": (the_strip_is_refused_to_who_is_erased, {
        ROUND + "_finish": [(" and all(r.state == rules.ABSENT for r in roles.values())", "")]}),
    "a member is forgotten before what was sent has landed": (erased_before_it_is_granted, {
        ROUND + "_finish": [(" and self.look_at is None", "")]}),
    "the wish to be erased stands only in the message": (erased_while_somebody_works, {
        MEMBERS + "request": [("    if erase:\n        actions.append(Membership.erased", "    if False:\n        actions.append(Membership.erased")],
        "chalicelib.reconcile:_work": [("row = _take(look)", "row = _take(look); row = row and replace(row, erased=look.erase and "
                                        "{'at': ports.now(), 'as': look.erase['as']})")]}),
    "each wish to be erased takes another pseudonym": (asked_twice_to_be_erased, {
        MEMBERS + "request": [('Membership.erased | {"at": now', '{"at": now')]}),
    "a late webhook gets past the tombstone": (erased_and_a_late_webhook, {
        MEMBERS + "_ready": [("item is None or item.requested is None and item.ttl <= now", "item is None or item.requested is None"),
                             ("create(user=user, server=server, now=now)", "create(user=user, server=server, now=now, revive=True)"),
                             ("if not known:", "if True:"), ("return not known", "return True")]}),
    "an old wish to be erased reaches who came back": (bought_again_after_being_erased, {
        MEMBERS + "request": [('condition &= Membership.born.does_not_exist() | (Membership.born < erase["asked"])', "pass")]}),
    "a row that began afresh does not know when": (bought_again_after_being_erased, {
        MEMBERS + "create": [('int(buried["at"])', "None")]}),
    "links are left as they are": (erased_and_a_late_webhook, {
        "chalicelib.anonymise:_steps": [("yield lambda key=key: links.bury(key, now=at)", "pass")]}),
    "who is erased keeps what they bought once": (the_strip_is_refused_to_who_is_erased, {
        ROUND + "_decide": [("self.wants = {}", "pass")]}),
    # charges, disputes, purchases, switches
    "a save forgets what is to be looked up": (refunded_while_another_ends, {
        MEMBERS + "save": [("*_roles(roles), ", NO_LOOKUPS + "*_roles(roles), ")]}),
    "a pause forgets what is to be looked up": (refunded_while_discord_is_closed, {
        MEMBERS + "pause": [("*_roles(roles), ", NO_LOOKUPS + "*_roles(roles), ")]}),
    "finish forgets a charge that could not be read": (the_charge_cannot_be_read, {
        MEMBERS + "finish": [("Membership.lookups.set(set(lookups)) if lookups else Membership.lookups.remove(),", NO_LOOKUPS)]}),
    "what is to be looked up stands only in the message": (refunded_while_somebody_works, {
        "chalicelib.reconcile:_take": [("hold=look.hold,", "hold=None,")],
        "chalicelib.reconcile:_work": [("row = _take(look)", "row = _take(look); row = row and look.hold and replace("
                                        "row, holds={look.hold.key: look.hold}, lookups=frozenset([look.hold.key])) or row")]}),
    "the whole map of holds is saved": (refunded_while_another_ends, {
        MEMBERS + "save": [("*_holds(holds),", WHOLE_HOLDS)], MEMBERS + "finish": [("*_holds(holds),", WHOLE_HOLDS)]}),
    "what is to be looked up is a second write": (refunded_while_somebody_works, {
        MEMBERS + "request": [("actions += [path.set(path | hold.facts()), Membership.lookups.add({hold.key})]",
                               "brings = [path.set(path | hold.facts()), Membership.lookups.add({hold.key})]"),
                              ("    return row", "    if hold:\n        from dataclasses import replace\n        row = replace(_update(user, server, "
                               "brings, Membership.requested.exists()), lease=row.lease)\n    return row")]}),
    "the event tells what became of the dispute": (the_dispute_is_won, {
        "chalicelib.worker:_look_at": [("hold=hold,", "hold=hold and Hold(hold.key, hold.reason, "
                                            "dispute='open' if message['type'].endswith('created') else 'over'),")],
        MEMBERS + "request": [("path.set(path | hold.facts())", "path.set(hold.facts())")],
        ROUND + "_ask": [("return processors.of(hold.key).read_hold(hold, read_at=self.clock, deadline=self.deadline)", "return hold")]}),
    "a charge that was asked about once is settled": (the_refund_fails, {
        ROUND + "_in_question": [("if key in self.row.lookups or", "if key in self.row.lookups and not hold.read_at or")]}),
    "a charge that cannot be read counts as untroubled": (disputed_and_not_to_be_read, {
        ROUND + "_fetch": [("self.unasked.append(hold.key)", "self.holds[hold.key] = replace(hold, refunded=0, dispute='')")]}),
    "a charge that cannot be read counts as refunded": (the_charge_cannot_be_read, {
        ROUND + "_fetch": [("self.unasked.append(hold.key)", "self.holds[hold.key] = replace(hold, amount=1, refunded=1)")]}),
    "an open dispute is not asked about again": (a_dispute_is_won_unseen, {
        ROUND + "_in_question": [("or hold.asked_again(self.clock) and hold.reason in {sub.key for sub in self.facts}", "")]}),
    "only events tell of a purchase's refund": (a_purchase_is_refunded_unseen, {
        ROUND + "_in_question": [("if key and (sub.troubled or key in self.row.holds):", "if False:")]}),
    "charges are not asked again before a strip": (one_is_won_before_the_other_is_opened, {
        ROUND + "_held_at_one_instant": [("if isinstance(one, Hold) or not one.terminal", "if not isinstance(one, Hold) and not one.terminal")]}),
    "a hold of one takes the other's role too": (one_is_won_before_the_other_is_opened, {
        PLAN + "held": [("if hold.reason == key and (why", "if (why")]}),
    "a purchase's days are counted from when it was read": (the_days_are_over, {
        PLAN + "access": [("end = item.start + terms.days * DAY", "end = sub.read_at + terms.days * DAY")]}),
    "strips do not wait for a grant that an outage stopped": (switched_while_discord_is_down, {
        PLAN + "plan": [("if any(patient", "if False and any(patient")]}),
    "strips come before grants": (switched_while_discord_is_down, {
        ROUND + "_call": [("[(GRANT, r) for r in plan.grants] + [(STRIP, r) for r in plan.strips]",
                           "[(STRIP, r) for r in plan.strips] + [(GRANT, r) for r in plan.grants]")]}),
}


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_shortcut_is_found_before_any_sweep(shortcut):
    # Rows: T15
    prepare, changes = SHORTCUTS[shortcut]
    with Town().open() as town, contextlib.ExitStack() as stack:
        scenario, budgets = prepare(town)
        for function, words in changes.items():
            stack.enter_context(rewritten(function, *words))
        report = explore(scenario, stop_on_first=True, **budgets)
    print(report)
    assert report.violations, f"{shortcut}: nobody noticed, {report}"
    assert not all(problem.startswith("after the sweeps") for problem in report.violations[0].problems), report
