"""Servers: settings and offers, the directory, and what closes the Discord calls of a server or of all of them."""
from dataclasses import replace

from pynamodb.exceptions import UpdateError

from chalicelib.domain.brakes import Brakes
from chalicelib.domain.closed import EVERYWHERE, Closed
from chalicelib.domain.ids import OPERATOR
from chalicelib.domain.offers import from_item
from chalicelib.store import accounts as store_accounts
from chalicelib.store.tables import ServerItem, condition_failed

_SETTINGS, DISCORD, _DIRECTORY = "settings", "discord", "directory"


def read(server_id):
    """(Server or None, [Closed]): its settings with what holds its role changes back, and what closes its Discord calls; three keys in one consistent read."""
    keys = [(server_id, _SETTINGS), (server_id, DISCORD), (EVERYWHERE, DISCORD)]
    server, closed, off, guard = None, [], set(), {}
    for item in ServerItem.batch_get(keys, consistent_read=True):
        if item.kind == _SETTINGS:
            server = from_item(server_id, item.settings.as_dict())
            continue
        off |= item.off or set()
        if item.server_id == server_id:
            guard = {"blocked_until": item.blocked_until, "lifted_until": item.lifted_until}
        if item.closed_until is not None:
            closed.append(Closed(item.server_id, float(item.closed_until), item.why, item.token_mark))
    return server and replace(server, brakes=Brakes(frozenset(off), **guard)), closed


def read_many(server_ids, *, accounts=()):
    """{server id: (Server or None, [Closed])} in one batch read (eventually consistent: for showing only).

    `accounts`: the connected accounts of which each Server is to say whether they are disconnected.
    """
    keys = [(server, kind) for server in server_ids for kind in (_SETTINGS, DISCORD)]
    keys += [(store_accounts.ACCOUNT, account) for account in accounts]
    items = list(ServerItem.batch_get([*keys, (EVERYWHERE, DISCORD)])) if keys else []
    off = frozenset(i.kind for i in items if i.server_id == store_accounts.ACCOUNT and i.state != store_accounts.CONNECTED)
    closed = [Closed(i.server_id, float(i.closed_until), i.why, i.token_mark) for i in items if i.closed_until is not None]
    settings = {i.server_id: replace(from_item(i.server_id, i.settings.as_dict()), disconnected=off) for i in items if i.kind == _SETTINGS}
    return {server: (settings.get(server), [c for c in closed if c.scope in (server, EVERYWHERE)])
            for server in server_ids}


def directory():
    """The ids of the servers that sell here, in one query."""
    return [item.kind for item in ServerItem.query(_DIRECTORY)]


def write(server_id, settings):
    """The server is registered with these settings: {name, offers, role_names, accounts, terms_url, privacy_url}."""
    ServerItem(server_id, _SETTINGS, settings=settings).save()
    ServerItem(_DIRECTORY, server_id).save()


def use_account(server_id, account):
    """The server may use this money account; nothing changes when it may already. False when the server is not known."""
    item = next(iter(ServerItem.batch_get([(server_id, _SETTINGS)], consistent_read=True)), None)
    if item is None:
        return False
    before = item.settings.as_dict().get("accounts")
    if account in (before or [OPERATOR]):
        return True
    field = ServerItem.settings["accounts"]
    if _conditional(server_id, [field.set([*(before or [OPERATOR]), account])], (field == before) if before else field.does_not_exist()):
        return True
    return use_account(server_id, account)  # somebody else changed the list meanwhile


def adopt_portal_configuration(server_id, account, configuration, *, instead_of=""):
    """True when `configuration` is the server's portal configuration at this account; False when another was stored meanwhile."""
    every = ServerItem.settings["portal_configurations"]
    field, before = every[account], ServerItem.settings["portal_configuration"]     # `before`: the operator's, of older settings
    ServerItem(server_id, _SETTINGS).update([every.set(every | {})])
    condition = field == instead_of if instead_of else field.does_not_exist()
    if account == OPERATOR:
        condition = condition | (field.does_not_exist() & (before == instead_of)) if instead_of else condition & (
            before.does_not_exist() | (before == ""))
    return _conditional(server_id, [field.set(configuration)], condition)


def _conditional(server_id, actions, condition):
    """True when the settings are changed so; False when the condition did not hold."""
    try:
        ServerItem(server_id, _SETTINGS).update(actions, condition=condition)
        return True
    except UpdateError as error:
        if condition_failed(error):
            return False
        raise


def close(scope, *, until, why, token_mark=None):
    """No worker calls Discord for `scope` (a server id, or EVERYWHERE) before `until`; a later closing is never shortened."""
    item = ServerItem(scope, DISCORD)
    actions = [ServerItem.closed_until.set(until), ServerItem.why.set(why),
               ServerItem.token_mark.set(token_mark) if token_mark else ServerItem.token_mark.remove()]
    try:
        item.update(actions, condition=ServerItem.closed_until.does_not_exist() | (ServerItem.closed_until < until))
    except UpdateError as error:
        if not condition_failed(error):
            raise


def claim_probe(closed, *, until):
    """The new Closed for exactly one caller, who may try Discord although a ban was seen; None: wait until `until`."""
    try:
        ServerItem(closed.scope, DISCORD).update([ServerItem.closed_until.set(until)],
                                                  condition=ServerItem.closed_until == closed.until)
        return replace(closed, until=until)
    except UpdateError as error:
        if condition_failed(error):
            return None
        raise


def reopen(closed):
    """Discord may be called again for this scope, unless it was closed anew since `closed` was read."""
    try:
        ServerItem(closed.scope, DISCORD).update(
            [ServerItem.closed_until.remove(), ServerItem.why.remove(), ServerItem.token_mark.remove()],
            condition=ServerItem.closed_until == closed.until)
    except UpdateError as error:
        if not condition_failed(error):
            raise
