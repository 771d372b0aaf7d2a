"""Restore my roles: look at Discord again and give back what is paid for. It never bills."""
from chalicelib import problem
from chalicelib.domain import ids
from chalicelib.gateways import queues
from chalicelib.store import members


def restore(*, user, server_id):
    """The member will be looked at, Discord included, within seconds. Raises Problem 404, and 503 when nothing was sent."""
    if not ids.valid("snowflake", server_id) or members.read(user, server_id) is None:
        raise problem.not_found()
    try:
        queues.send(queues.MEMBERS, {"user": user, "server": server_id, "cause": "member:restore", "look": True}, group=server_id)
    except queues.NotSent:
        raise problem.try_later("Our queue") from None
    return {"text": "We are asking Discord what you hold and giving back what you paid for. It takes a few seconds."}
