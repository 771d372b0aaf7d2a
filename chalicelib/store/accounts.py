"""Money accounts: who owns a connected Stripe account, which servers it is bound to, and whether we may still call it."""
from dataclasses import dataclass

from pynamodb.exceptions import DoesNotExist, UpdateError

from chalicelib.domain.ids import OPERATOR
from chalicelib.store.tables import ServerItem, condition_failed

ACCOUNT = "account"     # the partition of the servers table; the account's id is the sort key
HINTS, SENT = "hints", "sent"    # two more partitions with an account's id as sort key: what paces its unverified events, what was read of its list
HINTS_A_MINUTE = 30
CONNECTED, DISCONNECTED = "connected", "disconnected"


@dataclass(frozen=True)
class Account:
    """A connected account: `owner` the Discord user who answers for it, `servers` those it is bound to, `state` connected or
    disconnected since the instant `since`, `why` the latest thing that made it so.
    """
    id: str
    owner: str
    servers: frozenset
    state: str
    since: int
    why: str

    @property
    def connected(self):
        return self.state == CONNECTED


def read(account):
    """The account (consistent), or None when it was never connected here."""
    return read_some([account]).get(account)


def read_some(accounts):
    """{id: Account} of those that were ever connected here, in one consistent read."""
    found = ServerItem.batch_get([(ACCOUNT, account) for account in accounts], consistent_read=True) if accounts else ()
    return {item.kind: _account(item) for item in found}


def serves(account, server_id=None):
    """True when purchases (of this server) may be paid through this account now."""
    if account == OPERATOR:
        return True
    found = read(account)
    return found is not None and found.connected and (server_id is None or server_id in found.servers)


def every():
    """Every account that was ever connected here."""
    return [_account(item) for item in ServerItem.query(ACCOUNT, consistent_read=True)]


def bind(account, *, server, owner, at, why):
    """The account is connected, its owner is `owner`, and `server` is among its servers; None when it is somebody else's.

    Binding it again changes nothing but the reason, and the instant when it was disconnected before.
    """
    connected = ServerItem.state == CONNECTED
    actions = [ServerItem.owner_id.set(owner), ServerItem.servers.add({server}), ServerItem.state.set(CONNECTED), ServerItem.why.set(why)]
    mine = ServerItem.owner_id.does_not_exist() | (ServerItem.owner_id == owner)
    return _update(account, actions, mine & connected) or _update(account, [*actions, ServerItem.since.set(at)], mine & ~connected) or (
        _update(account, actions, mine & connected))    # connected by somebody else between the two


def hand_over(account, *, before, owner):
    """True when `owner` answers for the account and all servers that it is bound to, instead of `before`."""
    return _update(account, [ServerItem.owner_id.set(owner)], ServerItem.owner_id == before) is not None


def disconnect(account, *, at, why):
    """The account counts as disconnected since `at`. True when it was connected until now; one never seen stays unknown."""
    return _update(account, [ServerItem.state.set(DISCONNECTED), ServerItem.since.set(at), ServerItem.why.set(why)],
                   ServerItem.state == CONNECTED) is not None


def take_hint(account, *, wall):
    """True for so many unverified deliveries of an account a minute (`HINTS_A_MINUTE`); the others must wait."""
    minute = int(wall) // 60
    return _write(HINTS, account, [ServerItem.count.add(1)], (ServerItem.since == minute) & (ServerItem.count < HINTS_A_MINUTE)) is not None or _write(
        HINTS, account, [ServerItem.since.set(minute), ServerItem.count.set(1)],
        ServerItem.since.does_not_exist() | (ServerItem.since < minute)) is not None


def sent_until(account):
    """The instant until which the processor's own list of this account's events has been read, or None."""
    try:
        return int(ServerItem.get(SENT, account, consistent_read=True).since)
    except DoesNotExist:
        return None


def move_sent(account, *, before, until):
    """The list has been read until then; False when somebody else has moved on from `before` meanwhile."""
    was = ServerItem.since.does_not_exist() if before is None else ServerItem.since == before
    return _write(SENT, account, [ServerItem.since.set(until)], was) is not None


def _update(account, actions, condition):
    item = _write(ACCOUNT, account, actions, condition)
    return item and _account(item)


def _write(partition, account, actions, condition):
    """The item as written, or None when the condition does not hold."""
    item = ServerItem(partition, account)
    try:
        item.update(actions, condition=condition)
    except UpdateError as error:
        if condition_failed(error):
            return None
        raise
    return item


def _account(item):
    return Account(item.kind, item.owner_id, frozenset(item.servers or ()), item.state, int(item.since), item.why or "")
