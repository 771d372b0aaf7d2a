"""What the ledger and the links say about a member who asked to be erased, under a pseudonym and without what names anybody.

Each step may be done again: whoever comes after a crash uses the same pseudonym, which is in the row. The links go first, so
that an event that comes meanwhile already leads to nobody.
"""
from chalicelib import ports
from chalicelib.gateways.outcomes import OutOfTime
from chalicelib.store import ledger, links

FRESH_SECONDS = 60      # no click lives longer: a younger open intent may still be written by its own request
_STEP_SECONDS = 13      # one write, in the worst case
_KEPT = ("grants", "strips", "lost", "result")


def anonymise(row, *, at, deadline):
    """None when nothing in the ledger or the links leads from or to this membership any more; else when to come back.

    Raises OutOfTime with a part done when the function's time runs out.
    """
    young = [entry.at + FRESH_SECONDS for key in row.subs for entry in ledger.every(f"money#{key}", starting=ledger.OPEN)
             if entry.at + FRESH_SECONDS > at]
    if young:
        return max(young)
    for work in _steps(row, at):
        if ports.wall() + _STEP_SECONDS > deadline:
            raise OutOfTime
        work()
    return None


def _steps(row, at):
    """Every write that is needed, one function each."""
    for key, sub in row.subs.items():
        yield lambda key=key: links.bury(key, now=at)
        for entry in ledger.every(f"money#{key}"):
            yield lambda entry=entry: _nameless(entry, at)
        for entry in ledger.every(f"parked#{sub.account}", starting=ledger.unmapped_id(key, "")):
            yield lambda entry=entry: ledger.rewrite(entry, {name: value for name, value in entry.data.items() if name != "user"})
    pseudonym = f"erased#{row.erased['as']}"
    for entry in ledger.every(ledger.member_subject(row.user, row.server)):
        yield lambda entry=entry: ledger.move(entry, subject=pseudonym, data=_told(entry.data))
    yield lambda: ledger.open_audit(subject=pseudonym, row_id="erased", at=at, data={"cause": "member:erase"}, outcome={"result": "done"})


def _nameless(entry, at):
    """The money intent without who asked and what they wrote; one that was never closed is closed."""
    data = {name: value for name, value in entry.data.items() if name not in ("actor", "comment")}
    if entry.id == ledger.OPEN:
        return ledger.close_intent(ledger.Entry(entry.subject, entry.id, entry.kind, entry.at, data, None), at=at, outcome={"result": "given_up"})
    return ledger.rewrite(entry, data)


def _told(data):
    """What was done to which roles, and by what kind of event: no id of a person, a subscription or an event, no free text."""
    cause = str(data.get("cause", ""))
    return {name: data[name] for name in _KEPT if name in data} | {"cause": cause.partition(" ")[2] if cause.startswith(("evt_", "WH-")) else cause}
