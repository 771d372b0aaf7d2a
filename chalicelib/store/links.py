"""How to find a member: checkout intents and processor subscriptions. Written before the request that needs them."""
from dataclasses import dataclass

from pynamodb.exceptions import DoesNotExist, UpdateError

from chalicelib.store.tables import Link, condition_failed

INTENT_DAYS = 60    # webhooks come late: at least 45 days
APPROVAL_SECONDS = 3 * 3_600    # as long as the processor's page waits for it
BURIED_DAYS = 400   # how long what is left of an erased member's link says so: as long as audit rows are kept


@dataclass(frozen=True)
class Found:
    """The member that a link leads to; for an intent also what was to be bought, and the subscription that claimed it.

    `made_at`: when the checkout began. `user` is None in what is left of the link of a member whose data was erased.
    """
    user: str | None
    server: str | None
    offer: str | None = None
    account: str | None = None
    claimed_by: str | None = None
    made_at: int = 0


def of_subscription(key):
    """The member of this subscription (key of domain.ids.key), or None."""
    return _get(key)


def of_intent(intent, *, now=None):
    """The member who began this checkout, or None when we never made such an intent, or so long ago that it has expired."""
    return _get(f"intent:{intent}", now)


def make_intent(intent, *, user, server, offer, account, now):
    """A purchase of this offer is bound to this member; one subscription may claim it, for `INTENT_DAYS`."""
    Link(f"intent:{intent}", user_id=user, server_id=server, offer_id=offer, account=account, made_at=now,
         ttl=now + INTENT_DAYS * 86_400).save()


def claim_intent(intent, key):
    """True when the subscription `key` holds this intent, now or since earlier; False when another one claimed it first."""
    try:
        Link(f"intent:{intent}").update(
            [Link.claimed_by.set(key)],
            condition=Link.user_id.exists() & (Link.claimed_by.does_not_exist() | (Link.claimed_by == key)))
        return True
    except UpdateError as error:
        if condition_failed(error):
            return False
        raise


def begin_approval(key, *, user, server, offer, begins, now):
    """The member is about to approve this subscription at the processor, to begin at `begins` (None: at once): known for `APPROVAL_SECONDS`."""
    Link(_approval(user, server, offer), claimed_by=key, until=begins, made_at=now, ttl=now + APPROVAL_SECONDS).save()


def approval(*, user, server, offer, begins, now):
    """The key of the subscription to this offer that the member was last sent to approve, to begin at `begins`, or None."""
    try:
        item = Link.get(_approval(user, server, offer), consistent_read=True)
    except DoesNotExist:
        return None
    return item.claimed_by if item.ttl > now and item.until == begins else None


def _approval(user, server, offer):
    return f"approval:{user}:{server}:{offer}"


def link_subscription(key, *, user, server, offer, account, now):
    """This subscription leads to this member, for as long as it exists; `now` is when its checkout began."""
    Link(key, user_id=user, server_id=server, offer_id=offer, account=account, made_at=now).save()


def of_subscriptions(keys):
    """{key: Found} of those that have a link; eventually consistent: for showing only."""
    return {item.id: _found(item) for item in Link.batch_get(list(keys))} if keys else {}


def bury(key, *, now):
    """What is left of the link says that its member was erased, and names nobody. A late event finds it and stops there."""
    Link(key).update([Link.user_id.remove(), Link.server_id.remove(), Link.offer_id.remove(), Link.erased.set(True),
                      Link.made_at.set(now), Link.ttl.set(now + BURIED_DAYS * 86_400)])


def of_charge(key):
    """(key of what this charge paid for, end of the period it paid for or None), or None when we do not know it yet."""
    try:
        item = Link.get(key, consistent_read=True)
    except DoesNotExist:
        return None
    return item.reason, None if item.until is None else int(item.until)


def link_charge(key, *, reason, until, now):
    """This charge leads to the subscription or purchase that it paid for. It names no person."""
    Link(key, reason=reason, until=until, made_at=now).save()


def _get(link_id, now=None):
    try:
        item = Link.get(link_id, consistent_read=True)
    except DoesNotExist:
        return None
    if now is not None and item.ttl is not None and item.ttl <= now:    # DynamoDB takes its time to remove what has expired
        return None
    return _found(item)


def _found(item):
    return Found(item.user_id, item.server_id, item.offer_id, item.account, item.claimed_by, int(item.made_at or 0))
