"""`python -m chalicelib.operate`: what an operator does by hand, from a shell with a stage's environment (docs/operations.md).

One JSON object a line on standard output; logs go to standard error. Exit codes: 0 done; 1 refused, or something failed, and
the line says why; 2 not understood.
"""
import argparse
import json
import sys

from chalicelib import audit, connect, dead_letters, drift, explain, log, parked, ports, problem
from chalicelib.domain.ids import OPERATOR
from chalicelib.gateways.queues import QUEUES
from chalicelib.problem import Problem
from chalicelib.store import accounts

SECONDS = 300   # how long one command may take


def main(arguments):
    """The command has been carried out and its lines printed; answers the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        return asked.act(asked)
    except Problem as problem:
        _say(problem.body())
        return 1


def _parser():
    parser = argparse.ArgumentParser(prog="python -m chalicelib.operate", description="Accounts, parked events, members and dead letters of this stage.")
    parser.set_defaults(account=None, dry_run=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    made = commands.add_parser("connect", help="bind a connected Stripe account or a PayPal account to a server")
    made.add_argument("server", metavar="SERVER", help="the Discord server's id")
    made.add_argument("account", metavar="ACCOUNT", help="acct_… or a PayPal merchant id")
    made.add_argument("--owner", required=True, help="Discord id of who answers for the account")
    made.add_argument("--transfer", action="store_true", help="hand it over from another owner, with all its servers")
    made.add_argument("--dry-run", action="store_true", help="only check")
    made.set_defaults(act=_connect)
    commands.add_parser("accounts", help="every account that was ever connected here").set_defaults(act=_accounts)
    asked = commands.add_parser("explain", help="why a member has a role or has it not, and what exactly mends it")
    asked.add_argument("server", metavar="SERVER", help="the Discord server's id")
    asked.add_argument("user", metavar="USER", help="the member's Discord id")
    asked.set_defaults(act=_explain)
    counted = commands.add_parser("drift", help="how many members show each role, and how many of them have it from here")
    counted.add_argument("server", metavar="SERVER", help="the Discord server's id")
    counted.set_defaults(act=_drift)
    _dead_letters(commands.add_parser("dlq", help="messages that failed until they were put aside").add_subparsers(required=True, metavar="WHAT"))
    rows = commands.add_parser("parked", help="events that cannot be used yet").add_subparsers(required=True, metavar="WHAT")
    listed = rows.add_parser("list", help="what is parked")
    listed.add_argument("--account", help="of this account only: operator, acct_… or a merchant id")
    listed.set_defaults(act=_list)
    freed = rows.add_parser("release", help="try it again now: one row whatever it lacks, or all whose lack is gone")
    freed.add_argument("id", nargs="?", metavar="ID", help="as `parked list` shows it")
    freed.add_argument("--account", help="of this account: operator (the default with ID) or acct_…")
    freed.add_argument("--dry-run", action="store_true", help="only say what would be released")
    freed.set_defaults(act=_release)
    return parser


def _connect(asked):
    act = connect.check if asked.dry_run else connect.connect
    _say({**act(server_id=asked.server, account=asked.account, owner=asked.owner, transfer=asked.transfer, deadline=_deadline()),
          "dry_run": asked.dry_run})
    return 0


def _accounts(_):
    for account in sorted(accounts.every(), key=lambda one: one.id):
        _say(connect.shown(account))
    return 0


def _list(asked):
    for account, entry in parked.everything(asked.account):
        _say({"account": account, "id": entry.id, "at": entry.at, **entry.data})
    return 0


def _release(asked):
    """1 when a row failed, or the one that was named is not there; what there was no time for is left to the schedule."""
    account = asked.account or OPERATOR
    if asked.id is None:
        done = parked.release(asked.account, deadline=_deadline(), dry_run=asked.dry_run)
    elif asked.dry_run:
        done = {"released": int(parked.release_one(account, asked.id, dry_run=True))}
    else:
        with audit.act(account, {"cause": "operator:release", "parked": asked.id}, at=ports.now()):
            done = {"released": int(parked.release_one(account, asked.id))}
    _say({**done, "dry_run": asked.dry_run})
    return 1 if done.get("failed") or asked.id and not done["released"] else 0


def _explain(asked):
    _say(explain.for_operator(user=asked.user, server_id=asked.server))
    return 0


def _drift(asked):
    """1 while Discord cannot be asked."""
    found = drift.of_server(asked.server, deadline=_deadline())
    for one in found or ():
        _say({"server": asked.server, **one})
    if found is None:
        _say(problem.try_later("Discord").body())
    return 1 if found is None else 0


def _dead_letters(whats):
    counted = whats.add_parser("list", help="how many there are, and how many messages wait")
    counted.add_argument("queue", nargs="?", metavar="QUEUE", choices=QUEUES, help=f"one of {', '.join(QUEUES)}; all unless said")
    counted.set_defaults(act=_depths)
    for name, act, text in (("show", _show, "what each of them says"), ("redrive", _redrive, "put them into their queue again, whose worker judges them anew"),
                            ("discard", _discard, "throw them away; an audit row keeps what each said")):
        made = whats.add_parser(name, help=text)
        made.add_argument("queue", metavar="QUEUE", choices=QUEUES, help=f"one of {', '.join(QUEUES)}")
        made.add_argument("id", nargs="?", metavar="ID", help="only this one, as `dlq show` names it")
        made.set_defaults(act=act)
        if name != "show":
            made.add_argument("--dry-run", action="store_true", help="only count them")
        if name == "redrive":
            made.add_argument("--rate", type=int, default=5, help=f"messages a second, 1 to {dead_letters.MOST_A_SECOND}; 5 unless said")
        if name == "discard":
            made.add_argument("--all", action="store_true", help="all of them, where no ID is said")


def _depths(asked):
    for one in dead_letters.depths(asked.queue):
        _say(one)
    return 0


def _show(asked):
    """1 when the one that was named is not there, or there was no time for all."""
    counts, letters = dead_letters.show(asked.queue, letter_id=asked.id, deadline=_deadline())
    for one in letters:
        _say(one)
    return 1 if counts["left"] or asked.id and not letters else 0


def _redrive(asked):
    return _dealt(asked, dead_letters.redrive(asked.queue, letter_id=asked.id, rate=asked.rate, deadline=_deadline(), dry_run=asked.dry_run))


def _discard(asked):
    if not asked.id and not asked.all:
        raise problem.bad_request("Say which one (ID), or --all.")
    return _dealt(asked, dead_letters.discard(asked.queue, letter_id=asked.id, deadline=_deadline(), dry_run=asked.dry_run))


def _dealt(asked, counts):
    """1 when one failed, or the one that was named is not there; what there was no time for is left where it was."""
    _say({"queue": asked.queue, **counts, "dry_run": asked.dry_run})
    return 1 if counts["failed"] or asked.id and not counts["found"] else 0


def _deadline():
    return ports.wall() + SECONDS


def _say(facts):
    print(json.dumps(facts, ensure_ascii=True), flush=True)


if __name__ == "__main__":
    log.send_to(sys.stderr)
    sys.exit(main(sys.argv[1:]))
