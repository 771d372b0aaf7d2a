"""Stripe's billing portal: a session on our own configuration, made and kept as docs/architecture.md says."""
from chalicelib import connect, log, ports, problem, profile, settings
from chalicelib.domain import ids
from chalicelib.gateways import paypal, stripe
from chalicelib.gateways.outcomes import Done, InDoubt, Unknown
from chalicelib.problem import Problem
from chalicelib.store import servers

FLOWS = ("payment_method", "cancel")
REASONS = ("too_expensive", "missing_features", "switched_service", "unused", "customer_service", "too_complex",
           "low_quality", "other")


def open_session(*, user, subscription_id, flow, deadline):
    """The address of a billing-portal session for this member's customer: short-lived, never stored, never logged; or of PayPal's
    page of automatic payments, which needs no set-up and shows them all: it has no page for a single one.

    `flow` None, `payment_method` or `cancel`. Raises Problem 400, 404, 409 (the owner must do something first) or 503.
    """
    if flow is not None and flow not in FLOWS:
        raise problem.bad_request(f"flow must be one of: {', '.join(FLOWS)}.")
    found = profile.own_subscription(user, subscription_id)
    if found is None:
        raise problem.not_found()
    row, sub = found
    if sub.processor == ids.PAYPAL:
        return paypal.manage_url()
    server, _ = servers.read(row.server)
    if not sub.customer:
        raise Problem(409, "not-ready", "Not yet", "The purchase is still being confirmed.", "Try again in a few seconds.")
    configuration = _configuration(server, sub, deadline)
    answer = stripe.start_portal(sub.account, customer=sub.customer, configuration=configuration, flow=_flow(flow, sub),
                                 return_url=return_url(), deadline=deadline)
    if not isinstance(answer, Done):
        log.alarm("portal_session_failed", server=row.server, why=answer.why)
        raise connect.unreachable(sub.key)
    return answer.value["url"]


def return_url():
    """Where the portal's return link leads: a constant of the stage."""
    return f"{settings.get().public_url}/profile"


def required(server):
    """The managed settings of our configuration, in Stripe's form: what is not in here is the owner's choice."""
    return {
        "business_profile": {"terms_of_service_url": server.terms_url}
        | ({"privacy_policy_url": server.privacy_url} if server.privacy_url else {}),
        "default_return_url": return_url(),
        "features": {
            "subscription_cancel": {"enabled": True, "mode": "at_period_end", "proration_behavior": "none",
                                    "cancellation_reason": {"enabled": True, "options": list(REASONS)}},
            "subscription_update": {"enabled": False},
            "subscription_pause": {"enabled": False},
            "payment_method_update": {"enabled": True},
            "invoice_history": {"enabled": True},
        },
    }


def drift(wanted, actual, path=""):
    """The names of the settings that are not as they must be."""
    if isinstance(wanted, dict):
        inside = actual if isinstance(actual, dict) else {}
        return [name for key, value in wanted.items() for name in drift(value, inside.get(key), f"{path}.{key}".lstrip("."))]
    same = sorted(wanted) == sorted(actual or []) if isinstance(wanted, list) else wanted == actual
    return [] if same else [path]


def _configuration(server, sub, deadline):
    """The id of the server's own configuration at the account, made if there is none and repaired if it has drifted."""
    if server is None or not server.terms_url:
        raise Problem(409, "terms-missing", "The billing portal is not set up yet",
                      "The server's owner must add a link to their own terms of service before the portal can be opened.",
                      "Ask the server's owner. Cancel, undo and restore work here all the same.")
    wanted, ours = required(server), server.portal_configurations.get(sub.account, "")
    if not ours:
        return _create(server, sub, wanted, deadline)
    actual = stripe.portal_configuration(sub.account, ours, deadline=deadline)
    if isinstance(actual, Unknown):
        if actual.why != "stripe_404":
            raise connect.unreachable(sub.key)
        return _create(server, sub, wanted, deadline)
    wrong = drift(wanted, actual) + ([] if actual["active"] else ["active"])
    if wrong:
        log.alarm("portal_drift", server=server.id, count=len(wrong), why=",".join(wrong))
        _sent(sub, stripe.update_portal_configuration(
            sub.account, ours, {**wanted, "active": True}, deadline=deadline,
            idempotency_key=f"portal-repair-{ports.token()}"))      # setting the same twice is setting it once
    return ours


def _create(server, sub, wanted, deadline):
    """The id of a new configuration, or of the one that somebody else stored meanwhile (ours then stays unused)."""
    params = {**wanted, "name": "Rolekeep", "metadata": {"rolekeep_server": server.id}}
    params["features"] = {**wanted["features"], "customer_update": {
        "enabled": True, "allowed_updates": ["address", "email", "name", "phone"]}}
    made = _sent(sub, stripe.create_portal_configuration(
        sub.account, params, idempotency_key=f"portal-create-{ports.token()}", deadline=deadline))
    if servers.adopt_portal_configuration(server.id, sub.account, made["id"], instead_of=server.portal_configurations.get(sub.account, "")):
        return made["id"]
    return servers.read(server.id)[0].portal_configurations[sub.account]


def _sent(sub, answer):
    if isinstance(answer, Done):
        return answer.value
    log.alarm("portal_configuration_failed", why=answer.why, kind="in_doubt" if isinstance(answer, InDoubt) else "refused")
    raise connect.unreachable(sub.key)


def _flow(flow, sub):
    if flow == "payment_method":
        return {"type": "payment_method_update"}
    if flow == "cancel":
        if sub.terminal or sub.scheduled:
            raise Problem(409, "nothing-to-cancel", "There is nothing to cancel", "This subscription already ends by itself.")
        return {"type": "subscription_cancel", "subscription_cancel": {"subscription": sub.id}}
    return None
