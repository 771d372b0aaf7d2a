"""The map: every entry point of Rolekeep, in reading order. What each does stands in the use case it calls."""
from chalice import Chalice, Rate

from chalicelib import http, settings
from chalicelib.http import answer, answering

app = Chalice(app_name="rolekeep", configure_logs=False)    # chalicelib/log.py writes the lines, once
app.api.binary_types = ["application/octet-stream"]
ANY = ["*/*"]   # the use cases judge the body themselves, and answer in problem JSON


# Pages

@app.route("/")
@answering
def root():
    return http.redirect(f"{settings.get().public_url}/profile")


@app.route("/profile")
@answering
def profile_page():
    return http.static("profile.html")


@app.route("/assets/{name}")
@answering
def asset(name):
    return http.static(name)


# Signing in

@app.route("/auth/discord/login")
@answering
def login():
    from chalicelib import signin
    address, browser = signin.begin()
    return http.redirect(address, cookies=http.set_sign_in(browser))


@app.route("/auth/discord/callback")
@answering
def callback():
    from chalicelib import signin
    request = app.current_request
    query = request.query_params or {}
    try:
        secret = signin.finish(code=query.get("code"), state=query.get("state"), error=query.get("error"),
                               browser=http.sign_in_cookie(request), before=http.session_cookie(request))
    except signin.Refused as refused:
        return http.static("refused.html", status=refused.status)
    return http.redirect(f"{settings.get().public_url}/profile", status=303, cookies=http.set_session(secret))


@app.route("/auth/logout", methods=["POST"], content_types=ANY)
@answering
def logout():
    from chalicelib import signin
    http.changing(app.current_request)
    signin.end(http.session_cookie(app.current_request))
    return answer(status=204, cookies=http.clear_session(), **{"Clear-Site-Data": '"cache", "storage"'})


# The member's API

@app.route("/api/v1/profile")
@answering
def profile():
    from chalicelib import profile as use_case
    return answer(use_case.profile(*http.session(app.current_request)))


@app.route("/api/v1/servers")
@answering
def servers():
    from chalicelib import profile as use_case
    return answer(use_case.offers())


@app.route("/api/v1/checkout-sessions", methods=["POST"], content_types=ANY)
@answering
def checkout_session():
    from chalicelib import checkout
    member, body = http.changing(app.current_request, "server_id", "offer_id", "processor")
    return answer({"url": checkout.start(user=member.user, server_id=body.get("server_id"), offer_id=body.get("offer_id"),
                                         processor=body.get("processor"), deadline=http.deadline())}, 201)


@app.route("/api/v1/subscriptions/{subscription}/portal-session", methods=["POST"], content_types=ANY)
@answering
def portal_session(subscription):
    from chalicelib import portal
    member, body = http.changing(app.current_request, "flow")
    return answer({"url": portal.open_session(user=member.user, subscription_id=subscription, flow=body.get("flow"),
                                              deadline=http.deadline())}, 201)


@app.route("/api/v1/subscriptions/{subscription}/cancel", methods=["POST"], content_types=ANY)
@answering
def cancel(subscription):
    from chalicelib import cancel as use_case
    member, body = http.changing(app.current_request, "when", "reason", "comment")
    return answer({"receipt": use_case.cancel(user=member.user, subscription_id=subscription, reason=body.get("reason"),
                                              comment=body.get("comment"), when=body.get("when", use_case.PERIOD_END),
                                              deadline=http.deadline())})


@app.route("/api/v1/subscriptions/{subscription}/undo", methods=["POST"], content_types=ANY)
@answering
def undo(subscription):
    from chalicelib import cancel as use_case
    member, _ = http.changing(app.current_request)
    return answer(use_case.undo(user=member.user, subscription_id=subscription, deadline=http.deadline()))


@app.route("/api/v1/servers/{server}/restore", methods=["POST"], content_types=ANY)
@answering
def restore(server):
    from chalicelib import restore as use_case
    member, _ = http.changing(app.current_request)
    return answer(use_case.restore(user=member.user, server_id=server), 202)


@app.route("/api/v1/subscriptions/{subscription}/timeline")
@answering
def subscription_timeline(subscription):
    from chalicelib import timeline
    _, member = http.session(app.current_request)
    return answer(timeline.of_subscription(user=member.user, subscription_id=subscription, before=http.query(app.current_request, "before")))


@app.route("/api/v1/servers/{server}/timeline")
@answering
def server_timeline(server):
    from chalicelib import timeline
    _, member = http.session(app.current_request)
    return answer(timeline.of_server(user=member.user, server_id=server, before=http.query(app.current_request, "before")))


@app.route("/api/v1/servers/{server}/explain")
@answering
def explain(server):
    from chalicelib import explain as use_case
    _, member = http.session(app.current_request)
    return answer(use_case.of_member(user=member.user, server_id=server))


@app.route("/api/v1/me/export")
@answering
def export():
    from chalicelib import export as use_case
    _, member = http.session(app.current_request)
    return answer(use_case.export(member), **{"Content-Disposition": 'attachment; filename="rolekeep-export.json"'})


@app.route("/api/v1/me", methods=["DELETE"], content_types=ANY)
@answering
def erase():
    from chalicelib import erase as use_case
    member, body = http.changing(app.current_request, "cancel_subscriptions", "confirm")
    done = use_case.erase(user=member.user, secret=http.session_cookie(app.current_request), confirm=body.get("confirm"),
                          cancel_subscriptions=body.get("cancel_subscriptions"), deadline=http.deadline())
    return answer(done, 202, cookies=http.clear_session(), **{"Clear-Site-Data": '"cache", "storage"'})


# Intake: the processors' webhooks

@app.route("/webhooks/stripe/operator", methods=["POST"], content_types=ANY)
@answering
def stripe_webhook():
    from chalicelib import intake
    request = app.current_request
    return answer(intake.stripe(http.raw_body(request), request.headers.get("stripe-signature")))


@app.route("/webhooks/stripe/connect", methods=["POST"], content_types=ANY)
@answering
def stripe_connect_webhook():
    from chalicelib import intake
    request = app.current_request
    return answer(intake.stripe(http.raw_body(request), request.headers.get("stripe-signature"), endpoint=intake.CONNECT))


@app.route("/webhooks/paypal/{account}", methods=["POST"], content_types=ANY)
@answering
def paypal_webhook(account):
    from chalicelib import intake
    request = app.current_request
    return answer(intake.paypal(http.raw_body(request), request.headers, account=account))


# Workers: one per queue. `infra/package.py` switches partial batch failures on; without that, failed records are lost

@app.on_sqs_message(queue=settings.resource("stripe-events"), batch_size=10)
def stripe_events(event):
    from chalicelib import worker
    return worker.run(event.to_dict()["Records"], handle=worker.stripe_event, remaining=seconds_left(event))


@app.on_sqs_message(queue=settings.resource("paypal-events"), batch_size=10)
def paypal_events(event):
    from chalicelib import worker
    return worker.run(event.to_dict()["Records"], handle=worker.paypal_event, remaining=seconds_left(event))


@app.on_sqs_message(queue=settings.resource("members"), batch_size=10)
def members(event):
    from chalicelib import worker
    return worker.run(event.to_dict()["Records"], handle=worker.member, remaining=seconds_left(event))


# Schedules

@app.schedule(Rate(1, unit=Rate.MINUTES))
def due_sweep(event):
    from chalicelib import sweep
    sweep.due(remaining=seconds_left(event), limit=settings.WORKER_SECONDS)


@app.schedule(Rate(10, unit=Rate.MINUTES))
def parked_events(event):
    from chalicelib import parked
    parked.run(remaining=seconds_left(event), limit=settings.WORKER_SECONDS)


@app.schedule(Rate(1, unit=Rate.HOURS))
def sent_events(event):
    from chalicelib import sent_events as use_case
    use_case.run(remaining=seconds_left(event), limit=settings.WORKER_SECONDS)


@app.schedule(Rate(1, unit=Rate.DAYS))
def role_counts(event):
    from chalicelib import drift
    drift.run(remaining=seconds_left(event), limit=settings.WORKER_SECONDS)


def seconds_left(event):
    """How many seconds the function may still run, as a function of no arguments."""
    return lambda: event.context.get_remaining_time_in_millis() / 1000
