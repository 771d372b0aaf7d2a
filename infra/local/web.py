"""The product over HTTP: Chalice's LocalDevServer with a request handler that behaves as API Gateway does.

Differences from `chalice local`: answers leave in one write (the stock server stalls 44 ms per request on Nagle and
delayed ACK), what API Gateway refuses is refused (unknown path or method, oversized bodies) and with the problem JSON that the
deployed GatewayResponse gives, requests in parallel threads do not see each other, and no query string is logged.
"""

import contextlib
import http
import json
import logging
import re
import socket
import socketserver
import threading
import time
import urllib.parse
import uuid

from chalice.config import Config
from chalice.local import (
    ChaliceRequestHandler, HTTPServer, LambdaContext, LocalChalice, LocalDevServer, LocalGateway)

from chalicelib.problem import Problem, bad_request, not_found, too_large
from chalicelib.settings import WEB_SECONDS
from infra.local.permissions import API, acting_as

MAX_BODY = 256 * 1024  # bytes, as the product itself refuses; API Gateway takes 10 MB
PLAIN_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
log = logging.getLogger("local.web")


class Gateway(LocalGateway):
    """Chalice's local API Gateway with the event as API Gateway really sends it."""

    def handle_request(self, method, path, headers, body):
        """Answer the product's response, its calls to AWS judged by the role of the API's function."""
        with acting_as(API):
            return super().handle_request(method, path, headers, body)

    def _generate_lambda_context(self):
        return LambdaContext(API, 512, max_runtime_ms=WEB_SECONDS * 1000)

    def _generate_lambda_event(self, method, path, headers, body):
        event = super()._generate_lambda_event(method, path, headers, body)
        if isinstance(event["body"], bytes):  # API Gateway hands over text, and destroys what is not UTF-8
            event["body"] = event["body"].decode("utf-8", "replace")
        event["requestContext"].update(requestId=str(uuid.uuid4()), stage="local", protocol="HTTP/1.1")
        return event


class Handler(ChaliceRequestHandler):
    """One connection. Whatever happens, a request gets a whole answer or a closed connection."""

    wbufsize = -1
    disable_nagle_algorithm = True  # the end of a large answer would wait like the body of a small one
    timeout = 65  # seconds; an idle keep-alive connection ends here
    server_version = "Rolekeep"
    sys_version = ""

    def __init__(self, request, client_address, server, *, app_object, config):
        self.local_gateway = Gateway(app_object, config)
        self._app = app_object
        super(ChaliceRequestHandler, self).__init__(request, client_address, server)

    def handle(self):
        """Serve the connection until either side ends it; a caller who hangs up is no error."""
        with contextlib.suppress(ConnectionError):
            super().handle()

    def _generic_handle(self):
        self._began = time.monotonic()
        with self.server.request_under_way():
            try:
                headers, body = self._parse_payload()
                self._check_route()
                response = self.local_gateway.handle_request(
                    method=self.command, path=self.path, headers=headers, body=body)
                self._send_response_of_the_product(response)
            except Problem as refusal:
                self._send_problem(refusal)
                if self.close_connection:
                    self._swallow_the_rest()
            except TimeoutError:
                raise
            except Exception:
                log.exception("%s %s failed outside the product", self.command, self._path_only())
                self._send_problem(Problem(500, "local-server", "The local server failed", "Its log says why."))

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = do_PATCH = do_OPTIONS = _generic_handle

    def _parse_payload(self):
        """Answer (headers with lower-case names, body or None); a body that cannot be read ends the connection."""
        # The body stays unread when it is refused, so its bytes must never be taken for the next request.
        keep_open, self.close_connection = not self.close_connection, True
        length = self._body_length()
        body = self.rfile.read(length) if length else None
        if length and len(body) < length:
            raise bad_request("The connection ended before the announced body did.")
        self.close_connection = not keep_open
        return {name.lower(): value for name, value in self.headers.items()}, body

    def _body_length(self):
        if self.headers.get("Transfer-Encoding"):
            raise Problem(411, "length-required", "The length is missing",
                          "Send the body with a Content-Length; chunked bodies are not accepted.")
        lengths = set(self.headers.get_all("Content-Length", ["0"]))
        length = lengths.pop()
        if lengths or not PLAIN_NUMBER.fullmatch(length):
            raise bad_request("The Content-Length is not a number.")
        if int(length) > MAX_BODY:
            raise too_large()
        return int(length)

    def _check_route(self):
        """Refuse what API Gateway would answer without asking the product."""
        path = self.requestline.split()[1].split("?")[0]    # as it was sent: http.server and Chalice tidy it up
        if path.startswith("//") or ";" in path or path != "/" and path.endswith("/"):
            raise not_found()
        try:
            route = self.local_gateway.event_converter._route_matcher.match_route(self.path).route
        except ValueError:
            raise not_found() from None
        views = self._app.routes[route]
        preflight = self.command == "OPTIONS" and any(view.cors for view in views.values())
        if self.command not in views and not preflight:
            raise not_found()

    def _send_response_of_the_product(self, response):
        headers = {**response["headers"], **response["multiValueHeaders"]}
        body = self._handle_binary(response)["body"] or b""
        self._send(response["statusCode"], headers, body.encode() if isinstance(body, str) else body)

    def _send_problem(self, problem):
        headers = {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
        self._send(problem.status, headers, json.dumps(problem.body(), separators=(",", ":")).encode())

    def _send(self, status, headers, body):
        headers = {"Content-Type": "application/json", **headers} if body else dict(headers)
        if status not in (204, 304):
            headers["Content-Length"] = str(len(body))
        if self.close_connection:
            headers["Connection"] = "close"
        self.send_response(status)
        self._send_headers(headers)
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()  # before the request counts as answered: a stop waits for that only

    def _swallow_the_rest(self):
        """Read what the caller still sends, for a moment: closing on unread bytes would destroy our answer."""
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(1)
            end = time.monotonic() + 2
            while self.connection.recv(65536) and time.monotonic() < end:
                pass

    def handle_expect_100(self):
        """Refuse before the body comes where that is possible, and let the caller go on otherwise."""
        try:
            self._body_length()
        except Problem as refusal:
            self.close_connection = True
            self._send_problem(refusal)
            return False
        super().handle_expect_100()
        self.wfile.flush()  # buffered: the caller would wait for this line for ever
        return True

    def send_error(self, code, message=None, explain=None):
        """What is not HTTP, or a method http.server has no name for: a problem, and the connection ends."""
        self.close_connection = True
        self.request_version = self.protocol_version  # else http.server answers as in 1991, without a status line
        status = http.HTTPStatus(code)
        if status is http.HTTPStatus.NOT_IMPLEMENTED:
            self._send_problem(not_found())
        else:
            self._send_problem(Problem(status.value, "not-http", status.phrase, f"{message or status.description}."))

    def _path_only(self):
        return urllib.parse.urlsplit(getattr(self, "path", "-")).path

    def log_request(self, code="-", size="-"):
        """One line without the query string: that may hold sign-in codes and states."""
        log.info("%s %s %s %.0f ms", getattr(self, "command", None) or "-", self._path_only(), code,
                 (time.monotonic() - getattr(self, "_began", time.monotonic())) * 1000)

    def log_message(self, format, *args):
        """http.server's own remarks hold the request line, query string included: they are dropped."""


class _Server(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True  # an idle keep-alive connection must not hold up the stop
    request_queue_size = 128

    def __init__(self, address, handler):
        self._under_way = 0
        self._changed = threading.Condition()
        super().__init__(address, handler)

    def handle_error(self, request, client_address):
        """A connection that broke while it was being closed; everything else is answered in the handler."""
        log.debug("connection ended badly", exc_info=True)

    @contextlib.contextmanager
    def request_under_way(self):
        """Count a request for as long as it is being answered."""
        with self._changed:
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def wait_until_idle(self, timeout):
        """Return when no request is being answered, or after `timeout` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._under_way == 0, timeout)


class WebServer:
    """A Chalice app behind http://127.0.0.1:port, served by threads of this process from the moment it is made."""

    def __init__(self, app, *, port=0, host="127.0.0.1"):
        _give_each_thread_its_own_request(app)
        self._server = LocalDevServer(
            app, Config(), host, port, handler_cls=Handler, server_cls=_Server).server
        self.port = self._server.server_address[1]
        self.url = f"http://{host}:{self.port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="web", daemon=True)
        self._thread.start()

    def stop(self, *, timeout=10.0):
        """The port is free and every request that had begun is answered (those that take longer are cut off)."""
        self._server.shutdown()
        self._server.server_close()
        self._server.wait_until_idle(timeout)
        self._thread.join(timeout)


def _give_each_thread_its_own_request(app):
    """Make `app.current_request` thread-local, as chalice.local.create_local_server does for its own server only."""
    if not isinstance(app, LocalChalice):
        app.__class__ = type("ThreadedChalice", (LocalChalice, app.__class__), {})
