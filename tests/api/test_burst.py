"""Two hundred events in a burst, over HTTP: what was answered 2xx is applied."""
import itertools
from concurrent.futures import ThreadPoolExecutor

from tests.api.test_deliveries import bought, deliveries, ended, hold
from tests.instance import quiet

BUYERS, EVENTS = 14, 200


def lives(town):
    """{user: (subscription id, the roles that Stripe's last word pays for)}: bought and changed while no webhook is delivered."""
    found = {}
    for number, offer in zip(range(BUYERS), itertools.cycle(["gold", "silver", "both"]), strict=False):
        member = town.person()
        key = bought(town, member, offer)
        for flag in [True, False] * 5:
            town.sandbox.patch_subscription(key, cancel_at_period_end=flag)
        town.sandbox.renew(key)
        if number % 4 == 3:
            ended(town, key)
        paid = {"gold": {town.gold}, "silver": {town.silver}, "both": {town.gold, town.silver}}[offer]
        found[member.user_id] = key, set() if number % 4 == 3 else paid
    return found


def test_T1_I1_I10_two_hundred_signed_events_in_a_burst_are_drained_without_loss(town, stripe):
    """Faults 1, 29: the burst asks more of Discord than its limits allow, and what has to wait comes by itself."""
    hold(town)
    people = lives(town)
    by_user = {user: deliveries(town, key) for user, (key, _) in people.items()}
    events = [event for turn in itertools.zip_longest(*by_user.values()) for event in turn if event]
    assert len({event["id"] for event in events}) == len(events) >= EVENTS
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(stripe.sends, events))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["queued"] for answer in answers) >= EVENTS
    quiet(town.operator, seconds=60)
    for user, (_, roles) in people.items():
        town.holds(user, *roles, seconds=60)
        row = town.operator.membership(user, town.id)
        queued = sum(answer.json()["queued"] for event, answer in zip(events, answers, strict=True) if event in by_user[user])
        assert row["requested"] == row["done"] >= queued, "each one was looked at"
    assert town.dead() == []
