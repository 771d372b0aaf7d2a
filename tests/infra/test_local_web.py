"""The local web server: what API Gateway would refuse is refused, and one connection carries many requests."""

import http.client
import json
import logging
import re
import socket
import threading
import time

import pytest
from chalice import Chalice, Response

from infra.local import web

BEGUN = threading.Event()


def tiny_app():
    app = Chalice(app_name="tiny")

    @app.route("/hello/{name}")
    def hello(name):
        return {"hello": name}

    @app.route("/echo", methods=["POST"], content_types=["application/json", "application/octet-stream"])
    def echo():
        return {"length": len(app.current_request.raw_body), "kind": type(app.current_request._body).__name__}

    @app.route("/wait/{name}")
    def wait(name):
        BEGUN.set()
        time.sleep(0.05)
        return {"asked": app.current_request.query_params["name"], "name": name}

    @app.route("/cookies")
    def cookies():
        return Response("", status_code=204, headers={"Set-Cookie": ["a=1", "b=2"]})

    @app.route("/head", methods=["HEAD"])
    def head():
        return Response("as long as this", headers={"Content-Type": "text/plain"})

    return app


@pytest.fixture(scope="module")
def server():
    running = web.WebServer(tiny_app())
    yield running
    running.stop()


@pytest.fixture
def connection(server):
    link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    yield link
    link.close()


def ask(connection, method, path, **more):
    connection.request(method, path, **more)
    answer = connection.getresponse()
    return answer, answer.read()


def raw(server, text):
    """Send these bytes, answer (status, headers, body, what else came until the server closed)."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=3) as link:
        link.sendall(text)
        answer = http.client.HTTPResponse(link)
        answer.begin()
        body = answer.read()
        return answer.status, answer.headers, body, link.recv(100) if answer.will_close else b""


def assert_problem(body, headers, status):
    assert headers["Content-Type"] == "application/problem+json"
    problem = json.loads(body)
    assert problem["status"] == status and problem["title"] and problem["detail"] and problem["type"]


def test_many_requests_share_one_connection_and_none_stalls(connection):
    began = time.monotonic()
    for n in range(20):
        answer, body = ask(connection, "GET", f"/hello/{n}")
        assert (answer.status, json.loads(body)) == (200, {"hello": str(n)})
        link = connection.sock
        assert link is not None
    assert time.monotonic() - began < 0.4, "the stock server needs 44 ms for each"


@pytest.mark.parametrize(("method", "path"), [
    ("GET", "/nowhere"), ("DELETE", "/hello/x"), ("OPTIONS", "/echo"), ("PATCH", "/"), ("PROPFIND", "/hello/x")])
def test_an_unknown_path_or_method_is_a_404_problem(connection, method, path):
    answer, body = ask(connection, method, path)
    assert answer.status == 404
    assert_problem(body, answer.headers, 404)


def test_a_404_leaves_the_connection_usable_even_with_a_body(connection):
    assert ask(connection, "POST", "/nowhere", body=b"x" * 1000)[0].status == 404
    assert ask(connection, "GET", "/hello/again")[0].status == 200


def test_a_credential_on_an_unknown_path_is_not_sent_back(connection):
    answer, body = ask(connection, "GET", "/nowhere", headers={"Authorization": "Bearer secret-thing"})
    assert answer.status == 404
    assert b"secret-thing" not in body


def test_a_chunked_body_is_refused_and_never_taken_for_the_next_request(server):
    smuggled = b"GET /hello/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    status, headers, body, rest = raw(
        server, b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + smuggled)
    assert status == 411 and rest == b""
    assert headers["Connection"] == "close"
    assert_problem(body, headers, 411)


def test_a_body_over_256_kib_is_refused_and_the_answer_arrives(server, connection):
    for size in (256 * 1024 + 1, 20_000_000):  # the second is more than the socket's buffers hold
        answer, body = ask(connection, "POST", "/echo", body=b"x" * size)
        assert answer.status == 413 and answer.headers["Connection"] == "close"
        assert_problem(body, answer.headers, 413)
    answer, body = ask(connection, "POST", "/echo", body=b"x" * (256 * 1024),
                       headers={"Content-Type": "application/json"})
    assert json.loads(body)["length"] == 256 * 1024


@pytest.mark.parametrize("length", ["x", "-1", "+5", "1_0", "5, 5", "", "99999999999999999999"])
def test_a_malformed_content_length_is_refused_and_the_connection_ends(server, length):
    status, headers, body, rest = raw(
        server, f"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nhello".encode())
    assert status == 400 and rest == b""
    assert_problem(body, headers, 400)


def test_two_content_lengths_that_differ_are_refused(server):
    status, *_ = raw(
        server, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
    assert status == 400


def test_a_caller_who_waits_for_100_continue_gets_it(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=3) as link:
        link.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert link.recv(100).startswith(b"HTTP/1.1 100 ")
        link.sendall(b"hello")
        assert link.recv(100).startswith(b"HTTP/1.1 200 ")


def test_a_caller_who_waits_for_100_continue_with_too_much_is_told_before_sending(server):
    status, *_ = raw(
        server, b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n")
    assert status == 413


def test_something_that_is_not_http_gets_an_answer(server):
    status, headers, body, _ = raw(server, b"GET /hello/x HTTP/9.9\r\n\r\n")
    assert status == 505
    assert_problem(body, headers, 505)


@pytest.mark.parametrize(("path", "status"), [("/head", 200), ("/nowhere", 404), ("/hello/x", 404)])
def test_head_tells_the_length_and_sends_no_body(server, path, status):
    with socket.create_connection(("127.0.0.1", server.port), timeout=3) as link:
        link.sendall(f"HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        everything = b"".join(iter(lambda: link.recv(65536), b""))
    head, _, body = everything.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert int(re.search(rb"Content-Length: (\d+)", head)[1]) > 0
    assert body == b""


def test_a_204_has_neither_body_nor_length_and_keeps_both_cookies(connection):
    answer, body = ask(connection, "GET", "/cookies")
    assert (answer.status, body, answer.headers["Content-Length"]) == (204, b"", None)
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert ask(connection, "GET", "/hello/after")[0].status == 200


def test_text_reaches_the_product_as_text_and_binary_as_base64_as_api_gateway_sends_them(connection):
    for kind, body in (("application/json", "é".encode()), ("application/octet-stream", b"\xff\x00")):
        answer, got = ask(connection, "POST", "/echo", body=body, headers={"Content-Type": kind})
        assert json.loads(got) == {"length": 2, "kind": "str"}


def test_requests_in_parallel_do_not_see_each_other(server):
    seen = []

    def one(name):
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
        seen.append(json.loads(ask(link, "GET", f"/wait/{name}?name={name}")[1]))

    threads = [threading.Thread(target=one, args=(f"n{n}",)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 12
    assert all(each["asked"] == each["name"] for each in seen)


def test_the_access_log_has_no_query_string(connection, caplog):
    with caplog.at_level(logging.DEBUG, logger="local"):
        ask(connection, "GET", "/wait/x?name=x&code=very-secret")
        ask(connection, "GET", "/nowhere?state=very-secret")
        time.sleep(0.05)
    assert "GET /wait/x 200" in caplog.text
    assert "very-secret" not in caplog.text


def test_a_stop_lets_a_request_finish_that_had_begun():
    running = web.WebServer(tiny_app())
    BEGUN.clear()
    link = socket.create_connection(("127.0.0.1", running.port), timeout=5)
    link.sendall(b"GET /wait/x?name=x HTTP/1.1\r\nHost: x\r\n\r\n")
    assert BEGUN.wait(5)
    running.stop()
    link.setblocking(False)
    assert link.recv(100).startswith(b"HTTP/1.1 200 "), "the answer was there before the stop had ended"
    link.close()
