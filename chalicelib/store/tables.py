"""The pynamodb models: five tables, one connection, explicit time-outs. Every write is made in the modules beside this one."""
from pynamodb.attributes import BooleanAttribute, MapAttribute, NumberAttribute, UnicodeAttribute, UnicodeSetAttribute
from pynamodb.indexes import GlobalSecondaryIndex, IncludeProjection, KeysOnlyProjection
from pynamodb.models import Model

from chalicelib import settings


class _Meta:
    # Worst case of one call: 3 tries x (1 + 3) s and a short back-off, well inside every function's limit.
    connect_timeout_seconds = 1
    read_timeout_seconds = 3
    max_retry_attempts = 2
    max_pool_connections = 32


def _meta(name):
    return type("Meta", (_Meta,), {"table_name": settings.resource(name)})


class DueIndex(GlobalSecondaryIndex):
    """Finds memberships whose next look is due. It lags: it only finds work, nothing is decided from it."""

    class Meta:
        index_name = "due"
        projection = KeysOnlyProjection()

    due_shard = NumberAttribute(hash_key=True)
    due_at = NumberAttribute(range_key=True)


class ByServerIndex(GlobalSecondaryIndex):
    """Finds the memberships of a server. It lags."""

    class Meta:
        index_name = "by_server"
        projection = KeysOnlyProjection()

    server_id = UnicodeAttribute(hash_key=True)
    user_id = UnicodeAttribute(range_key=True)


class Membership(Model):
    """One member of one server: the user-server-role mapping. Field meanings: chalicelib/store/members.py."""

    Meta = _meta("members")
    user_id = UnicodeAttribute(hash_key=True)
    server_id = UnicodeAttribute(range_key=True)
    requested = NumberAttribute(null=True)  # absent in what is left of an erased membership
    done = NumberAttribute(null=True)
    lease = MapAttribute(null=True)
    roles = MapAttribute(null=True)
    subs = MapAttribute(null=True)
    holds = MapAttribute(null=True)
    lookups = UnicodeSetAttribute(null=True)
    look = BooleanAttribute(null=True)
    look_at = NumberAttribute(null=True)
    due_shard = NumberAttribute(null=True)
    due_at = NumberAttribute(null=True)
    checked_at = NumberAttribute(null=True)
    causes = UnicodeSetAttribute(null=True)
    erased = MapAttribute(null=True)
    ends = UnicodeSetAttribute(null=True)
    born = NumberAttribute(null=True)
    ttl = NumberAttribute(null=True)
    due = DueIndex()
    by_server = ByServerIndex()


class Link(Model):
    """How to find a member: a processor subscription, a purchase or a checkout intent; or how to find what a charge paid for."""

    Meta = _meta("links")
    id = UnicodeAttribute(hash_key=True)
    user_id = UnicodeAttribute(null=True)
    server_id = UnicodeAttribute(null=True)
    reason = UnicodeAttribute(null=True)
    until = NumberAttribute(null=True)
    offer_id = UnicodeAttribute(null=True)
    account = UnicodeAttribute(null=True)
    claimed_by = UnicodeAttribute(null=True)
    made_at = NumberAttribute(null=True)
    erased = BooleanAttribute(null=True)
    ttl = NumberAttribute(null=True)


class ServerItem(Model):
    """A server's settings (kind `settings`), what closes its Discord calls or holds its role changes back (`discord`), what the mass-strip guard has counted
    (`guard`), a directory entry, a money account, or what paces and follows its events.
    """

    Meta = _meta("servers")
    server_id = UnicodeAttribute(hash_key=True)
    kind = UnicodeAttribute(range_key=True)
    settings = MapAttribute(null=True)
    owner_id = UnicodeAttribute(null=True)
    servers = UnicodeSetAttribute(null=True)
    state = UnicodeAttribute(null=True)
    since = NumberAttribute(null=True)
    count = NumberAttribute(null=True)
    closed_until = NumberAttribute(null=True)
    why = UnicodeAttribute(null=True)
    token_mark = UnicodeAttribute(null=True)
    off = UnicodeSetAttribute(null=True)
    blocked_until = NumberAttribute(null=True)
    lifted_until = NumberAttribute(null=True)
    members = UnicodeSetAttribute(null=True)
    most = NumberAttribute(null=True)
    holders = NumberAttribute(null=True)


class ParkedIndex(GlobalSecondaryIndex):
    """Finds parked events that it is time to try again, of every account. It lags: it only finds work."""

    class Meta:
        index_name = "parked"
        projection = IncludeProjection(["at"])

    parked_shard = NumberAttribute(hash_key=True)
    look_at = NumberAttribute(range_key=True)
    at = NumberAttribute()


class Ledger(Model):
    """Audit rows, money intents and parked events."""

    Meta = _meta("ledger")
    subject = UnicodeAttribute(hash_key=True)
    id = UnicodeAttribute(range_key=True)
    kind = UnicodeAttribute()
    at = NumberAttribute()
    data = MapAttribute()
    outcome = MapAttribute(null=True)
    parked_shard = NumberAttribute(null=True)
    look_at = NumberAttribute(null=True)
    releasing = UnicodeAttribute(null=True)
    ttl = NumberAttribute(null=True)
    parked = ParkedIndex()


class ByUserIndex(GlobalSecondaryIndex):
    """Finds a user's web sessions. It lags by moments: a session made just now may be missing from it."""

    class Meta:
        index_name = "by_user"
        projection = KeysOnlyProjection()

    user_id = UnicodeAttribute(hash_key=True)
    expires_at = NumberAttribute(range_key=True)


class Session(Model):
    """Web sessions and sign-in states, under the hash of what the browser holds."""

    Meta = _meta("sessions")
    id = UnicodeAttribute(hash_key=True)
    kind = UnicodeAttribute()
    user_id = UnicodeAttribute(null=True)
    name = UnicodeAttribute(null=True)
    verifier = UnicodeAttribute(null=True)
    browser = UnicodeAttribute(null=True)
    expires_at = NumberAttribute()
    ttl = NumberAttribute()
    by_user = ByUserIndex()


def condition_failed(error):
    """True when a write was refused because its condition did not hold; any other failure is not an answer."""
    return error.cause_response_code == "ConditionalCheckFailedException"


MODELS = (Membership, Link, ServerItem, Ledger, Session)


def _share_connection():
    """One botocore client serves all models: a client per model would cost 36 to 94 ms each on a cold start."""
    first = MODELS[0]._get_connection().connection
    for model in MODELS[1:]:
        table = model._get_connection()
        first.add_meta_table(table.connection.get_meta_table(model.Meta.table_name))
        table.connection = first


_share_connection()
