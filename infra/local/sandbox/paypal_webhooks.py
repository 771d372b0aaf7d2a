"""Webhooks of the PayPal sandbox: signed with a certificate, delivered by deliveries.py; PayPal's API over webhooks and events.

Shapes: the official file (specs/paypal.webhooks.json). Headers: real deliveries (docs/sandbox-paypal-notes.md).
"""
import base64
import json
import zlib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import urlencode

from . import deliveries
from .clock import to_epoch
from .deliveries import post
from .http import BadControl, json_answer
from .paypal_certificates import PATH as CERTIFICATES, Certificates
from .paypal_errors import NOT_WELL_FORMED, Refusal
from .paypal_world import draw, iso

# PayPal tries 25 times more, over three days (developer.paypal.com/api/rest/webhooks); the pauses here are shorter.
BACK_OFF = (1, 2, 4, 8, 15, 30, 60, 120, *[300] * 17)
ALGORITHM = "SHA256withRSA"
PAGE, LARGEST_PAGE = 10, 300    # the default is the official file's; the largest is assumed


@dataclass(frozen=True)
class Endpoint:
    """A webhook of a merchant's REST app: its id goes into what is signed. Two may have one address while one is being replaced."""

    url: str
    merchant: str
    webhook_id: str
    event_types: tuple = ("*",)

    def wants(self, event_type):
        """Whether the webhook is subscribed to that type of event."""
        return any(fnmatchcase(event_type, pattern) for pattern in self.event_types)


class Deliveries(deliveries.Deliveries):
    """PayPal's deliveries: each attempt is a transmission with an id, a time and a signature of its own."""

    def __init__(self, memory, webhooks, *, wall, faults, lock, post):
        super().__init__(memory, wall=wall, faults=faults, lock=lock, back_off=BACK_OFF, post=post)
        self._webhooks = webhooks

    def kind(self, event):
        return event["event_type"]

    def targets(self, event):
        return [one for one in self._webhooks.endpoints if one.merchant == self._webhooks.merchant_of(event) and one.wants(event["event_type"])]

    def addressed(self, event, endpoint):
        return {"account": endpoint.merchant, "webhook": endpoint.webhook_id, "url": endpoint.url, "transmission": None}

    def request(self, item):
        event = self._webhooks.worlds[item["account"]].find("event", item["event"])
        endpoint = next((one for one in self._webhooks.endpoints if one.webhook_id == item["webhook"]), None)
        if event is None or endpoint is None:
            return None
        body = json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode()
        headers = self._webhooks.signed(body, endpoint.webhook_id)
        item["transmission"] = headers["PAYPAL-TRANSMISSION-ID"]
        return endpoint.url, headers, body

    def noted(self, item, entry):
        whole = self.world.state
        whole["attempts"].setdefault(item["event"], []).append({**entry, "webhook": item["webhook"], "transmission": item["transmission"]})


class Memory:
    """What Deliveries keeps: the state of the whole sandbox, which is saved when a world says that it has changed."""

    def __init__(self, whole, worlds):
        self.state, self._worlds = whole, worlds

    def draw(self, length):
        return draw(self.state, length)

    @property
    def changed(self):
        return any(world.changed for world in self._worlds.values())

    @changed.setter
    def changed(self, value):
        next(iter(self._worlds.values())).changed = value


class Webhooks:
    """Everything about webhooks in one sandbox. `worlds`: {merchant id: World}; `post(url, headers, body) -> status` delivers."""

    def __init__(self, whole, worlds, endpoints, *, clock, faults, lock, url, post=post):
        self.whole, self.worlds, self.endpoints, self._clock, self._url = whole, worlds, list(endpoints), clock, url
        memory = Memory(whole, worlds)
        self.certificates = Certificates(whole, wall=clock.wall, url=url, changed=lambda: setattr(memory, "changed", True))
        self.deliveries = Deliveries(memory, self, wall=clock.wall, faults=faults, lock=lock, post=post)
        for world in worlds.values():
            self.adopt(world)

    def adopt(self, world):
        """The events of that merchant's world are delivered from now on."""
        self.worlds[world.merchant.id] = world
        world.deliver = self._made

    def _made(self, event):
        """The event goes out; one that PayPal loses is not even in its list (12 of 145 cancellations at one shop)."""
        if self.deliveries.enqueue(event).get("do") == "lose":
            world = self.worlds[self.merchant_of(event)]
            del world.state["objects"]["event"][event["id"]]

    def merchant_of(self, event):
        """The merchant in whose world the event is."""
        return next(key for key, world in self.worlds.items() if world.find("event", event["id"]) is event)

    def signed(self, body, webhook_id):
        """The headers of a delivery of the raw `body` to that webhook, now."""
        hexadecimal = draw(self.whole, 32, "0123456789abcdef")
        sent = "-".join((hexadecimal[:8], hexadecimal[8:12], hexadecimal[12:16], hexadecimal[16:20], hexadecimal[20:]))
        at = iso(self._clock.wall())
        address, signature = self.certificates.sign(f"{sent}|{at}|{webhook_id}|{zlib.crc32(body)}".encode())
        return {"Content-Type": "application/json", "Accept": "*/*", "User-Agent": "PayPal/AUHR-214.0-58843836", "PAYPAL-AUTH-ALGO": ALGORITHM,
                "PAYPAL-AUTH-VERSION": "v2", "PAYPAL-CERT-URL": address, "PAYPAL-TRANSMISSION-ID": sent, "PAYPAL-TRANSMISSION-SIG": signature,
                "PAYPAL-TRANSMISSION-TIME": at, "CORRELATION-ID": draw(self.whole, 13, "0123456789abcdef")}

    # the API, each call for one world

    def routes(self, world):
        """(method, path pattern, call(request, *ids) -> (status, answer)) of the calls that need a token."""
        return [(method, f"/v1/notifications/{path}", lambda request, *found, call=call: call(world, request, *found)) for method, path, call in (
            ("GET", "webhooks", self._list), ("GET", "webhooks/{webhook_id}", self._show), ("GET", "webhooks-events", self._events),
            ("GET", "webhooks-events/{event_id}", self._event), ("POST", "webhooks-events/{event_id}/resend", self._resend),
            ("POST", "verify-webhook-signature", self._verify))]

    def open(self, request):
        """The Answer to a request that needs no token (a certificate), or None."""
        is_one = request.method == "GET" and request.path.startswith(CERTIFICATES)
        return self.certificates.answer(request.path) if is_one else None

    def _of(self, world):
        return [one for one in self.endpoints if one.merchant == world.merchant.id]

    def _list(self, world, request):
        return 200, {"webhooks": [self._shown(one) for one in self._of(world)]}

    def _show(self, world, request, webhook_id):
        found = next((one for one in self._of(world) if one.webhook_id == webhook_id), None)
        if found is None:
            raise _unknown()
        return 200, self._shown(found)

    def _shown(self, endpoint):
        here = self._url(f"/v1/notifications/webhooks/{endpoint.webhook_id}")
        return {"id": endpoint.webhook_id, "url": endpoint.url, "event_types": [
            {"name": name, "description": "ALL" if name == "*" else name} for name in endpoint.event_types],
            "links": [{"href": here, "rel": "self", "method": "GET"}, {"href": here, "rel": "update", "method": "PATCH"},
                      {"href": here, "rel": "delete", "method": "DELETE"}]}

    def _events(self, world, request):
        """The newest first, by pages; the next one is reached by its link only."""
        asked = request.query
        size, start = _number(asked, "page_size", PAGE), int(asked.get("next_page_token", "0") or 0)
        begin, end = _instant(asked, "start_time", 0), _instant(asked, "end_time", float("inf"))
        found = [event for event in reversed(list(world.all("event"))) if begin <= to_epoch(event["create_time"]) <= end
                 and asked.get("event_type", event["event_type"]) == event["event_type"]
                 and asked.get("transaction_id", event["resource"].get("id")) == event["resource"].get("id")]
        page = found[start:start + size]
        here = f"{self._url(request.path)}?"
        links = [{"href": here + request.raw_query, "rel": "self", "method": "GET"}]
        if start + size < len(found):
            links.append({"href": here + urlencode({**asked, "page_size": size, "next_page_token": start + size}), "rel": "next", "method": "GET"})
        return 200, {"events": [self._told(event) for event in page], "count": len(page), "links": links}

    def _event(self, world, request, key):
        return 200, self._told(_found(world, key))

    def _told(self, event):
        """The event as the API shows it: with its transmissions, which a delivered body never has."""
        pending = {item["webhook"]: item for item in self.deliveries.waiting if item["event"] == event["id"]}
        tried = {entry["webhook"]: entry for entry in self.whole["attempts"].get(event["id"], ())}
        urls = {one.webhook_id: one.url for one in self.endpoints}
        return {**event, "transmissions": [
            {"webhook_url": urls[webhook], "transmission_id": (tried.get(webhook) or {}).get("transmission") or "",
             "status": "PENDING" if webhook in pending else "SUCCESS" if 200 <= tried[webhook]["status"] < 300 else "FAILURE"}
            for webhook in sorted((pending.keys() | tried.keys()) & urls.keys())]}

    def _resend(self, world, request, key):
        """Pending ones are not sent again (the official file)."""
        event = _found(world, key)
        if not any(item["event"] == key for item in self.deliveries.waiting):
            self.deliveries.resend(event)
        return 202, self._told(event)

    def _verify(self, world, request):
        """Whether PayPal signed exactly this text of an event: what was read and written again may not be the same text any more."""
        given, event = _parts(request.body)
        mine = given.get("webhook_id") in [one.webhook_id for one in self._of(world)] and given.get("auth_algo") == ALGORITHM
        message = "|".join([str(given.get("transmission_id")), str(given.get("transmission_time")), str(given.get("webhook_id")), str(zlib.crc32(event))])
        right = mine and self.certificates.verifies(str(given.get("cert_url")), message.encode(), str(given.get("transmission_sig")))
        return 200, {"verification_status": "SUCCESS" if right else "FAILURE"}

    # orders

    def orders(self):
        """(method, path pattern, call(wish, *ids)) of the control calls about webhooks."""
        return [("GET", "events", self.show_events), ("POST", "events/([^/]+)/resend", self.resend_now), ("POST", "release", self.release),
                ("GET", "endpoints", self.show_endpoints), ("PUT", "endpoints", self.set_endpoints), ("POST", "certificates", self.order_certificate),
                ("GET", "certificates", self.show_root), ("POST", "sign", self.sign)]

    def show_events(self, wish):
        """Every event with its merchant, its attempts (status 0: no answer) and what is still waiting."""
        waiting = {}
        for item in self.deliveries.waiting:
            waiting.setdefault(item["event"], []).append({name: item[name] for name in ("url", "webhook", "held", "tries")})
        return json_answer({"events": [
            {**event, "account": key, "attempts": self.whole["attempts"].get(event["id"], []), "waiting": waiting.get(event["id"], [])}
            for key, world in self.worlds.items() for event in world.all("event")]})

    def resend_now(self, wish, key):
        event = next((found for world in self.worlds.values() if (found := world.find("event", key))), None)
        if event is None:
            raise _unknown()
        return json_answer({"resent": self.deliveries.resend(event)})

    def release(self, wish):
        order = wish.get("order", "as_made")
        if order not in ("as_made", "reverse", "shuffle"):
            raise BadControl("'order' must be as_made, reverse or shuffle")
        return json_answer({"released": self.deliveries.release(order)})

    def show_endpoints(self, wish):
        return json_answer({"endpoints": [{**vars(one), "event_types": list(one.event_types)} for one in self.endpoints]})

    def set_endpoints(self, wish):
        try:
            self.endpoints[:] = [Endpoint(one["url"], one["merchant"], one["webhook_id"], tuple(one.get("event_types", ("*",)))) for one in wish["endpoints"]]
        except (KeyError, TypeError):
            raise BadControl("send {\"endpoints\": [{\"url\", \"merchant\", \"webhook_id\", \"event_types\"?}]}") from None
        return self.show_endpoints(wish)

    def order_certificate(self, wish):
        """Events are signed with another certificate from now on: {"kind": "good", "expired", "html" …}."""
        return json_answer({"address": self.certificates.order(wish.get("kind", "good"))}, 201)

    def sign(self, wish):
        """The headers of a delivery of these bytes ({"body": base64, "webhook_id"}), which nobody sends: for who wants to send it otherwise."""
        try:
            return json_answer({"headers": self.signed(base64.b64decode(wish["body"], validate=True), str(wish["webhook_id"]))})
        except (KeyError, TypeError, ValueError):
            raise BadControl("send {\"body\": base64, \"webhook_id\"}") from None

    def show_root(self, wish):
        return json_answer({"root": self.certificates.root})


def _found(world, key):
    event = world.find("event", key)
    if event is None:
        raise _unknown()
    return event


def _unknown():
    return Refusal(404, "INVALID_RESOURCE_ID", "The requested resource ID was not found")


def _number(asked, name, default):
    text = asked.get(name, str(default))
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= LARGEST_PAGE):
        raise _bad_query(name)
    return int(text)


def _instant(asked, name, default):
    try:
        return to_epoch(asked[name]) if name in asked else default
    except ValueError:
        raise _bad_query(name) from None


def _bad_query(name):
    return Refusal(400, "VALIDATION_ERROR", "Invalid request - see details.", [{"field": name, "location": "query", "issue": "INVALID_PARAMETER_SYNTAX"}])


def _parts(body):
    """(the members of a request's JSON object but `webhook_event`, the exact bytes of that one). Refusal 400 for anything else."""
    decoder, found, event = json.JSONDecoder(), {}, None
    try:
        text = body.decode()
        at = _skip(text, text.index("{") + 1)
        while text[at] != "}":
            name, at = decoder.raw_decode(text, at)
            at = _skip(text, text.index(":", at) + 1)
            found[name], end = decoder.raw_decode(text, at)
            event = text[at:end].encode() if name == "webhook_event" else event
            at = _skip(text, end)
            at = _skip(text, at + 1) if text[at] == "," else at
    except (ValueError, IndexError, RecursionError):
        event = None
    if event is None or not isinstance(found["webhook_event"], dict):
        raise Refusal(400, "VALIDATION_ERROR", NOT_WELL_FORMED)
    return found, event


def _skip(text, at):
    while text[at] in " \t\r\n":
        at += 1
    return at
