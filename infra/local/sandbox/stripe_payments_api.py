"""The API's operations on payments, refunds, disputes and accounts, and the orders about them under /_sandbox/."""
from .http import BadControl, json_answer
from .stripe_api import LISTING, Route, within
from .stripe_reversals import CLOSED, FAILURES, OPEN


def routes(account):
    """The operations of one account (stripe_accounts.Account), beside those in stripe_api."""
    api, reversals = account.api, account.reversals

    def listed(kind, url, *names):
        def carry_out(params):
            return api.page(kind, params, url, lambda o: within(o["created"], params.get("created"))
                            and all(params.get(name, o[name]) == o[name] for name in names))
        return Route.of("GET " + url, carry_out, *LISTING, "created", *names)

    def invoice_payments(params):
        wish = params.get("payment", {})
        return api.page("invoice_payment", params, "/v1/invoice_payments", lambda p: within(p["created"], params.get("created"))
                        and wish.get("type", "payment_intent") == "payment_intent" and "payment_record" not in wish
                        and wish.get("payment_intent") in (None, p["payment"]["payment_intent"])
                        and all(params.get(name, p[name]) == p[name] for name in ("invoice", "status")))

    return [
        Route.of("GET /v1/payment_intents/{id}", api.get("payment_intent", "intent")),
        listed("charge", "/v1/charges", "customer", "payment_intent"),
        Route.of("GET /v1/charges/{id}", api.get("charge")),
        Route.of("GET /v1/invoice_payments", invoice_payments, *LISTING, "created", "invoice", "status", "payment[type]", "payment[payment_intent]"),
        Route.of("GET /v1/invoice_payments/{id}", api.get("invoice_payment", "invoice_payment")),
        Route.of("POST /v1/refunds", reversals.create, "charge", "payment_intent", "amount", "reason", "metadata"),
        listed("refund", "/v1/refunds", "charge", "payment_intent"),
        Route.of("GET /v1/refunds/{id}", api.get("refund")),
        listed("dispute", "/v1/disputes", "charge", "payment_intent"),
        Route.of("GET /v1/disputes/{id}", api.get("dispute", "dispute")),
        Route.of("GET /v1/account", lambda params: account.object()),
        Route.of("GET /v1/accounts/{account}", lambda params, key: account.show(key)),
    ]


def orders(account):
    """The control calls about payments of one account: (method, path, call(wish, *ids))."""
    world, reversals = account.world, account.reversals

    def charges_of_subscription(wish, key):
        world.find("subscription", key)
        return json_answer({"charges": account.billing.payments.charges_of_subscription(key)})

    def charges_of_session(wish, key):
        session = world.find("checkout.session", key)
        return json_answer({"charges": [c for c in world.all("charge") if session["payment_intent"] and c["payment_intent"] == session["payment_intent"]]})

    def refund(wish, key):
        return json_answer(reversals.create({"charge": key, **_only(wish, "amount", "reason")}), 201)

    def resolve(wish, key, how):
        why = _chosen(wish, "reason", FAILURES, "unknown")
        refund = world.find("refund", key)
        reversals.resolve(refund, failed=how == "fail", why=why)
        return json_answer(refund)

    def dispute(wish, key):
        _chosen(wish, "status", OPEN, "needs_response")
        return json_answer(reversals.dispute(world.find("charge", key), **_only(wish, "reason", "amount", "status")), 201)

    def change_dispute(wish, key):
        dispute = world.find("dispute", key)
        reversals.set_status(dispute, _chosen(wish, "status", (*OPEN, *CLOSED)))
        return json_answer(dispute)

    def close_dispute(wish, key):
        return change_dispute({"status": _chosen(wish, "outcome", CLOSED)}, key)

    def settle(wish, key):
        intent = world.find("payment_intent", key)
        if intent["status"] != "processing":
            raise BadControl(f"{key} is {intent['status']}: no bank is to answer")
        account.purchases.settle(intent, _chosen(wish, "outcome", ("succeed", "decline"), "succeed"))
        return json_answer(intent)

    return [
        ("GET", r"subscriptions/([^/]+)/charges", charges_of_subscription),
        ("GET", r"checkout_sessions/([^/]+)/charges", charges_of_session),
        ("POST", r"payment_intents/([^/]+)/settle", settle),
        ("POST", r"charges/([^/]+)/refund", refund),
        ("POST", r"refunds/([^/]+)/(fail|succeed)", resolve),
        ("POST", r"charges/([^/]+)/dispute", dispute),
        ("PATCH", r"disputes/([^/]+)", change_dispute),
        ("POST", r"disputes/([^/]+)/close", close_dispute),
    ]


def _chosen(wish, name, known, default=None):
    if wish.get(name, default) not in known:
        raise BadControl(f"{name!r} must be one of {', '.join(known)}")
    return wish.get(name, default)


def _only(wish, *names):
    unknown = wish.keys() - set(names)
    if unknown:
        raise BadControl(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(names)}")
    return wish
