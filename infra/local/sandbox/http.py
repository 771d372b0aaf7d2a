"""What the sandboxes share over HTTP: a front with request log, ordered faults and common controls, and a server.

A sandbox is an object with `handle(method, path_with_query, headers, body) -> (status, headers, body)`. Tests and
simulations call that directly, without sockets; `serve` puts the same object behind a port. The server is the
standard library's: Werkzeug's closes the connection after each answer.
"""
import json
import re
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from . import clock as clocks

SECRET_FIELDS = re.compile(
    r"(?i)((?:client_secret|code_verifier|refresh_token|access_token|token|code|state|number|cvc)[\]\"']*\s*[=:]\s*[\"']?)[^&\"',}]+")
SECRET_HEADERS = {"authorization", "cookie", "set-cookie", "proxy-authorization"}


class NoAnswer(ConnectionError):
    """The caller gets no answer: the connection closes after `seconds`. Whether the request was carried out is open."""

    def __init__(self, why, seconds=0.0):
        super().__init__(why)
        self.why, self.seconds = why, seconds


SHARED_CONTROLS = ("GET|POST clock", "GET|DELETE requests", "GET|POST|DELETE faults", "GET|DELETE violations")


class BadControl(ValueError):
    """A control call that cannot be understood; answered with 400 and this text."""


class Headers(dict):
    """Header names in lower case, whatever their case was."""

    def __init__(self, pairs):
        super().__init__({name.lower(): value for name, value in dict(pairs).items()})

    def get(self, name, default=None):
        return super().get(name.lower(), default)


@dataclass
class Request:
    """One request: `path` without the query, `query` as {name: last value}, `headers` case-insensitive, `body` bytes."""

    method: str
    path: str
    query: dict
    headers: Headers
    body: bytes = b""
    raw_query: str = ""

    def form(self):
        """The form-encoded body as {name: last value}; undecodable bytes become U+FFFD."""
        return {k: v[-1] for k, v in parse_qs(self.body.decode("utf-8", "replace"), keep_blank_values=True).items()}

    def json(self):
        """The body as a JSON object; {} when empty. BadControl when it is anything else."""
        try:
            value = json.loads(self.body or b"{}")
        except (ValueError, RecursionError):
            raise BadControl("the body is not JSON") from None
        if not isinstance(value, dict):
            raise BadControl("the body must be a JSON object")
        return value


@dataclass
class Answer:
    """One answer; `body` is bytes."""

    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes = b""


def json_answer(value, status=200, headers=None):
    """`value` as application/json."""
    return Answer(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())


def text_answer(text, status=200, *, kind="text/plain", headers=None):
    """`text` as UTF-8 text/plain, or text/html with `kind`."""
    return Answer(status, {"Content-Type": f"{kind}; charset=utf-8", **(headers or {})}, text.encode())


def redirect(url, status=303):
    """The browser goes to `url` with GET."""
    return Answer(status, {"Location": url, "Cache-Control": "no-store"})


class Faults:
    """The faults that were ordered and not yet used up: on requests (method, path) and on webhooks (event type)."""

    DO = {"path": {"answer", "timeout", "close", "lose_answer", "timeout_after_effect", "delay"},
          "webhook": {"drop", "delay", "duplicate", "hold", "shuffle"}}

    def __init__(self, more=(), webhook=()):
        self._orders, self._last_id, self._lock = [], 0, threading.Lock()
        self._do = {"path": self.DO["path"] | set(more), "webhook": self.DO["webhook"] | set(webhook)}

    def order(self, wish):
        """The fault is in force from the `nth` match on (default 1) for `times` matches (null: until cleared). Its order is returned.

        `times` is 1 unless told otherwise; a shuffle, which makes no sense for one, lasts until cleared.
        """
        kind = "webhook" if "webhook" in wish else "path"
        if wish.get("do") not in self._do[kind]:
            raise BadControl(f"'do' must be one of {sorted(self._do[kind])} for a {kind} fault")
        if not isinstance(wish.get("nth", 1), int) or wish.get("nth", 1) < 1:
            raise BadControl("'nth' counts from 1")
        if wish["do"] == "answer" and not isinstance(wish.get("status"), int):
            raise BadControl("'answer' needs a 'status'")
        try:
            re.compile(wish.get(kind, ""))
        except (re.error, TypeError) as problem:
            raise BadControl(f"{kind!r} is not a regular expression: {problem}") from None
        with self._lock:
            self._last_id += 1
            order = {"id": self._last_id, "times": None if wish["do"] == "shuffle" else 1, "nth": 1, **wish}
            self._orders.append(order)
            return dict(order)

    def take(self, kind, subject, method=None):
        """The first order of `kind` ("path" or "webhook") whose pattern is found in `subject`, used up by one, or None."""
        with self._lock:
            for order in self._orders:
                wanted = order.get("method")
                if (kind == "webhook") == ("webhook" in order) and re.search(order.get(kind, ""), subject) \
                        and (wanted is None or wanted.upper() == method):
                    if order["nth"] == 1:
                        return self._use_up(order)
                    order["nth"] -= 1
        return None

    def _use_up(self, order):
        if order["times"] is not None:
            order["times"] -= 1
            if order["times"] <= 0:
                self._orders.remove(order)
        return dict(order)

    def pending(self):
        """All orders still in force."""
        with self._lock:
            return [dict(order) for order in self._orders]

    def clear(self):
        """No fault is in force."""
        with self._lock:
            self._orders.clear()


class Front:
    """Stands before a sandbox: logs each request, carries out ordered faults, and answers the controls all share.

    `answer(Request) -> Answer` is the sandbox itself. Bodies of paths that match `secret_paths` are never logged.
    `seen(request, answer)`, if given, is told of every answer, ordered ones too. `contract` (see spec.py) is told of every
    request, and of every answer that the sandbox makes itself: an ordered one stands for whatever lies between.
    `changes` are more faults to order: {name: function of (request, order)} that changes the world just before the request is carried out;
    `webhook_faults` names of more that the sandbox carries out on its webhooks.
    """

    def __init__(self, answer, *, clock, sleep=time.sleep, secret_paths=r"/oauth2/", seen=None, keep=5000, contract=None, changes=None,
                 webhook_faults=()):
        self._answer, self.clock, self._sleep, self._seen = answer, clock, sleep, seen
        self._secret_paths, self.contract, self._changes = re.compile(secret_paths), contract, changes or {}
        self.faults, self.log = Faults(self._changes, webhook_faults), deque(maxlen=keep)

    def handle(self, method, target, headers=None, body=b""):
        """(status, headers, body) of one request. NoAnswer when a fault says that the caller shall get none."""
        parts = urlsplit(target)
        query = {k: v[-1] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        request = Request(method.upper(), parts.path, query, Headers(headers or {}), body or b"", parts.query)
        if request.path.startswith("/_sandbox/"):
            answer = self._controlled(request)
        else:
            answer = self._logged(request)
        return answer.status, answer.headers, answer.body

    def _logged(self, request):
        order = self.faults.take("path", request.path, request.method) or {}
        entry = self._entry(request, order.get("do"))
        self.log.append(entry)
        if self.contract:
            self.contract.asked(request)
        answer = self._with_fault(request, order)
        entry["status"] = answer.status
        if self._seen:
            self._seen(request, answer)
        return answer

    def _with_fault(self, request, order):
        do, seconds = order.get("do"), float(order.get("seconds", 0))
        if do == "answer":
            return ordered_answer(order)
        if do == "timeout":
            raise NoAnswer("timeout", seconds or 60.0)
        if do == "close":
            raise NoAnswer("close")
        if do == "delay":
            self._sleep(seconds)
        if do in self._changes:
            self._changes[do](request, order)
        answer = self._answer(request)
        if self.contract:
            self.contract.answered(request, answer)
        if do == "lose_answer":
            raise NoAnswer("lose_answer", seconds)
        if do == "timeout_after_effect":
            raise NoAnswer("timeout", seconds or 60.0)
        return answer

    def _entry(self, request, fault):
        hidden = self._secret_paths.search(request.path)
        return {
            "at": clocks.to_iso(self.clock.now()), "method": request.method, "path": request.path,
            "query": SECRET_FIELDS.sub(r"\1***", request.raw_query),
            "headers": {k: "***" if k in SECRET_HEADERS else v for k, v in request.headers.items()},
            "body": None if hidden else SECRET_FIELDS.sub(r"\1***", request.body[:4096].decode("utf-8", "replace")),
            "fault": fault, "status": None}

    def _controlled(self, request):
        try:
            return self._common_control(request) or self._answer(request)
        except BadControl as problem:
            return json_answer({"error": str(problem)}, 400)

    def _common_control(self, request):
        """The answer to a control that all sandboxes have, or None."""
        match request.method, request.path:
            case "GET", "/_sandbox/clock":
                return json_answer(self.clock.as_json())
            case "POST", "/_sandbox/clock":
                return self._move_clock(request.json())
            case "GET", "/_sandbox/requests":
                return json_answer({"requests": list(self.log)})
            case "DELETE", "/_sandbox/requests":
                self.log.clear()
                return Answer(204)
            case "GET", "/_sandbox/faults":
                return json_answer({"faults": self.faults.pending()})
            case "POST", "/_sandbox/faults":
                return json_answer(self.faults.order(request.json()), 201)
            case "DELETE", "/_sandbox/faults":
                self.faults.clear()
                return Answer(204)
            case "GET", "/_sandbox/violations" if self.contract:
                return json_answer(self.contract.violations.as_json())
            case "DELETE", "/_sandbox/violations" if self.contract:
                self.contract.violations.clear()
                return Answer(204)
        return None

    def _move_clock(self, wish):
        try:
            if set(wish) == {"advance"}:
                self.clock.advance(wish["advance"])
            elif set(wish) == {"to"}:
                self.clock.move_to(wish["to"])
            else:
                raise ValueError('send {"advance": seconds} or {"to": epoch or ISO-8601}')
        except (TypeError, ValueError, OverflowError) as problem:
            raise BadControl(str(problem)) from None
        return json_answer(self.clock.as_json())


def ordered_answer(order):
    """The Answer that a fault order describes: an object as JSON, a text as it is."""
    body, headers = order.get("body", ""), order.get("headers") or {}
    if isinstance(body, str):
        kind = "text/html" if body.lstrip().startswith("<") else "text/plain"
        return text_answer(body, order["status"], kind=kind, headers=headers)
    return json_answer(body, order["status"], headers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body leave in one write; unbuffered, Nagle and delayed ACK cost 40 ms per request
    disable_nagle_algorithm = True
    timeout = 120  # an idle keep-alive connection ends here

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except ConnectionError:  # the client went away
            self.close_connection = True

    def _serve(self):
        if self.headers.get("Transfer-Encoding"):
            return self._send(411, {"Connection": "close"}, b"Length Required")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            status, headers, payload = self.server.sandbox_handle(self.command, self.path, dict(self.headers), body)
        except NoAnswer as lost:
            self.server.sleep(lost.seconds)
            self.close_connection = True
            return None
        except Exception:  # a bug in the sandbox: the caller sees a 500, the terminal sees why
            traceback.print_exc()
            status, headers, payload = 500, {"Content-Type": "text/plain"}, b"sandbox error, see its output"
        return self._send(status, headers, payload)

    def _send(self, status, headers, payload):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_OPTIONS = _serve  # the names http.server looks for

    def log_message(self, format, *args):
        pass  # the request log of the front is the log


class Server(ThreadingHTTPServer):
    """A sandbox behind http://127.0.0.1:port, in a thread of its own."""

    daemon_threads, block_on_close, request_queue_size = True, False, 128

    def __init__(self, handle, port=0, *, sleep=time.sleep):
        super().__init__(("127.0.0.1", port), _Handler)
        self.sandbox_handle, self.sleep = handle, sleep
        self.port = self.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def stop(self):
        """The port is free again; requests under way are cut off."""
        self.shutdown()
        self.server_close()
        self._thread.join(5)


def serve(handle, port=0, *, sleep=time.sleep):
    """A running Server for `handle`; port 0 takes a free one (read `.port`, `.url`); `.stop()` ends it."""
    return Server(handle, port, sleep=sleep)
