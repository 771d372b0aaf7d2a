"""Audit rows: each role change has one written before it and closed after it, with cause, evidence and answers (I9)."""
import contextlib

from chalicelib import log, ports
from chalicelib.domain.paypal import PAID
from chalicelib.gateways.outcomes import Done, InDoubt, Refused
from chalicelib.store import ledger


def open_roles(row, plan, told, *, at):
    """There is an audit row for the role changes about to be made; its id comes back. A crash leaves it open.

    `told` is what a person needs to follow it: cause, and what chalicelib/domain/story.py says.
    """
    row_id = f"{at:012d}-{ports.token(6)}"
    ledger.open_audit(subject=ledger.member_subject(row.user, row.server), row_id=row_id, at=at, data={
        **told, "causes": list(row.causes)[:20], "grants": list(plan.grants), "strips": list(plan.strips)})
    return row_id


def note(row, told, *, result, at):
    """There is an audit row for a change that touches no role, closed at once: what was learned, and what becomes of it."""
    ledger.open_audit(subject=ledger.member_subject(row.user, row.server), row_id=f"{at:012d}-{ports.token(6)}", at=at,
                      data={**told, "causes": list(row.causes)[:20]}, outcome={"result": result})


def close_roles(row, row_id, answers):
    """The audit row says what Discord answered for each role: {role: "grant done" …}."""
    ledger.close_audit(subject=ledger.member_subject(row.user, row.server), row_id=row_id,
                       outcome={role: f"{verb} {_word(answer)}" for role, (verb, answer) in answers.items()})


def park_unmapped(row, unmapped, *, at):
    """Every paid line that no offer knows is parked once, and somebody is told; the daily look grants it once mapped."""
    for sub, item in unmapped:
        data = {"why": "unmapped_price", "price": item.price, "charged": item.charged, "subscription": sub.key, "user": row.user, "server": row.server}
        if ledger.park(account=sub.account, row_id=ledger.unmapped_id(sub.key, item.price), at=at, data=data):
            log.alarm("parked", server=row.server, why="unmapped_price")


def park_event(message, why, *, at, intent=""):
    """The event is kept with all that is needed to send it again, and somebody is told. `intent`: which one it names.

    One row for all events of a kind about a thing: they mean the same. That a payment was made is another row than that it went back.
    """
    row_id = f"{why}:{message['id']}{':paid' if (message.get('kind'), message.get('type')) == ('sale', PAID) else ''}"
    data = {"why": why, "message": message} | ({"intent": intent} if intent else {})
    if ledger.park(account=message["account"], row_id=row_id, at=at, data=data):
        log.alarm("parked", why=why, kind=message.get("type", ""))


@contextlib.contextmanager
def act(name, facts, *, at, about="account"):
    """There is an audit row for what is about to be done about a money account, or a server (`about`); afterwards it says done, or what failed.

    Yields a dict: what the block puts into it stands in the outcome.
    """
    said = {}
    subject, row_id = f"{about}#{name}", f"{at:012d}-{ports.token(6)}"
    ledger.open_audit(subject=subject, row_id=row_id, at=at, data=facts)
    try:
        yield said
    except Exception as error:
        ledger.close_audit(subject=subject, row_id=row_id, outcome={**said, "result": "failed", "why": type(error).__name__})
        raise
    ledger.close_audit(subject=subject, row_id=row_id, outcome={**said, "result": "done"})


def _word(answer):
    if isinstance(answer, Done):
        return "done"
    if isinstance(answer, InDoubt):
        return "in doubt"
    return f"refused: {answer.why}" if isinstance(answer, Refused) else f"later: {answer.why}"
