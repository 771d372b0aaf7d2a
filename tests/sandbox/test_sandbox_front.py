"""The shared clock, and what both sandboxes share over HTTP."""
import json
import time

import pytest
import requests

from infra.local.sandbox import http
from infra.local.sandbox.clock import SandboxClock, to_epoch


@pytest.fixture
def front():
    slept = []
    front = http.Front(lambda request: http.json_answer({"form": request.form()}), clock=SandboxClock(wall=lambda: 1000.0),
                       sleep=slept.append)
    front.slept, front.done = slept, []
    return front


def control(front, method, path, body=None):
    status, _, payload = front.handle(method, path, {}, json.dumps(body).encode() if body is not None else b"")
    return status, json.loads(payload or b"null")


def test_the_clock_only_moves_forward_and_remembers_across_a_restart(tmp_path):
    moves = []
    clock = SandboxClock(tmp_path / "clock.json", wall=lambda: 100.0)
    clock.on_move(lambda before, after: moves.append((before, after)))
    clock.advance(50)
    clock.move_to("1970-01-01T00:05:00Z")
    assert (clock.now(), clock.offset, moves) == (300.0, 200.0, [(100.0, 150.0), (150.0, 300.0)])
    for backwards in (lambda: clock.advance(-1), lambda: clock.move_to(299), lambda: clock.advance(float("nan"))):
        with pytest.raises(ValueError):
            backwards()
    assert SandboxClock(tmp_path / "clock.json", wall=lambda: 100.0).now() == 300.0


def test_an_instant_without_a_zone_is_utc():
    assert to_epoch("2026-01-01T00:00:00") == to_epoch("2026-01-01T01:00:00+01:00") == 1767225600.0


def test_the_clock_is_moved_over_the_control_api(front):
    assert control(front, "POST", "/_sandbox/clock", {"advance": 60})[1]["now"] == 1060.0
    assert control(front, "GET", "/_sandbox/clock")[1] == {"offset": 60.0, "now": 1060.0, "iso": "1970-01-01T00:17:40.000Z"}
    assert control(front, "POST", "/_sandbox/clock", {"to": 0})[0] == 400
    assert control(front, "POST", "/_sandbox/clock", {"to": "soon"})[0] == 400


def test_the_request_log_holds_no_secrets(front):
    front.handle("POST", "/v1/x?state=abc&page=2", {"Authorization": "Bearer sk_live_1", "Cookie": "s=1"},
                 b"card[number]=4242424242424242&plan=gold")
    front.handle("POST", "/oauth2/token", {}, b"grant_type=authorization_code&code=hush")
    log = json.dumps(control(front, "GET", "/_sandbox/requests")[1])
    assert all(secret not in log for secret in ("abc", "sk_live_1", "s=1", "4242", "hush"))
    assert "plan=gold" in log and "page=2" in log
    assert control(front, "DELETE", "/_sandbox/requests")[0] == 204 and not front.log


def test_an_ordered_answer_is_given_the_ordered_number_of_times(front):
    order = {"method": "PUT", "path": "^/r", "do": "answer", "status": 429, "headers": {"Retry-After": "3"},
             "body": {"retry_after": 3}, "times": 2}
    assert control(front, "POST", "/_sandbox/faults", order)[0] == 201
    answers = [front.handle(m, "/roles", {}, b"") for m in ("GET", "PUT", "PUT", "PUT")]
    assert [status for status, _, _ in answers] == [200, 429, 429, 200]
    assert answers[1][1]["Retry-After"] == "3" and json.loads(answers[1][2]) == {"retry_after": 3}
    assert control(front, "GET", "/_sandbox/faults")[1] == {"faults": []}


def test_a_lost_answer_is_one_to_a_request_that_was_carried_out():
    done = []
    front = http.Front(lambda request: done.append(request.path) or http.Answer(204), clock=SandboxClock())
    for do, carried_out in (("timeout", 0), ("close", 0), ("lose_answer", 1)):
        done.clear()
        front.faults.order({"path": "/x", "do": do})
        with pytest.raises(http.NoAnswer) as lost:
            front.handle("PUT", "/x", {}, b"")
        assert (lost.value.why, len(done)) == (do, carried_out)


def test_a_time_out_after_the_effect_is_one_to_a_request_that_was_carried_out():
    done = []
    front = http.Front(lambda request: done.append(request.path) or http.Answer(204), clock=SandboxClock())
    front.faults.order({"path": "/x", "do": "timeout_after_effect"})
    with pytest.raises(http.NoAnswer) as lost:
        front.handle("PUT", "/x", {}, b"")
    assert (lost.value.why, lost.value.seconds, done) == ("timeout", 60.0, ["/x"]), "longer than any client waits"


def test_a_fault_strikes_at_the_nth_matching_request_and_only_matching_ones_count(front):
    front.faults.order({"path": "/x", "method": "PUT", "do": "answer", "status": 500, "nth": 3, "times": 2})
    wanted = [("PUT", "/x"), ("GET", "/x"), ("PUT", "/y"), ("PUT", "/x"), ("PUT", "/x"), ("PUT", "/x"), ("PUT", "/x")]
    assert [front.handle(method, path, {}, b"")[0] for method, path in wanted] == [200, 200, 200, 200, 500, 500, 200]
    for nth in (0, "2", -1):
        assert control(front, "POST", "/_sandbox/faults", {"path": "/x", "do": "close", "nth": nth})[0] == 400


def test_a_delayed_request_lands_late_and_answers(front):
    front.faults.order({"path": "/x", "do": "delay", "seconds": 7})
    assert front.handle("GET", "/x", {}, b"")[0] == 200 and front.slept == [7.0]


def test_a_wrong_fault_order_is_refused_with_the_reason(front):
    for wrong in ({"do": "explode"}, {"path": "(", "do": "close"}, {"path": "/x", "do": "answer"}, {"webhook": "x", "do": "close"}):
        status, body = control(front, "POST", "/_sandbox/faults", wrong)
        assert status == 400 and body["error"]


def test_over_http_a_connection_is_kept_and_an_answer_takes_no_40_ms():
    front = http.Front(lambda request: http.json_answer(request.form()), clock=SandboxClock())
    server = http.serve(front.handle)
    try:
        with requests.Session() as session:
            session.post(server.url + "/x", data={"a": "1"}, timeout=5)
            started = time.perf_counter()
            for n in range(20):
                assert session.post(server.url + "/x?q=1", data={"a": n}, timeout=5).json() == {"a": str(n)}
            assert time.perf_counter() - started < 0.4  # Nagle with delayed ACK would take 0.8 s
            assert next(iter(session.adapters["http://"].poolmanager.pools._container.values())).num_connections == 1
            front.faults.order({"path": "/x", "do": "close"})
            with pytest.raises(requests.ConnectionError):
                session.get(server.url + "/x", timeout=5)
            front.faults.order({"path": "/x", "do": "timeout", "seconds": 1})
            with pytest.raises(requests.Timeout):
                session.get(server.url + "/x", timeout=0.1)
            front.log.clear()
            front.faults.order({"path": "/x", "do": "timeout_after_effect", "seconds": 1})
            with pytest.raises(requests.ReadTimeout):
                session.post(server.url + "/x", data={"a": "late"}, timeout=0.3)
            assert [entry["fault"] for entry in front.log] == ["timeout_after_effect"]
    finally:
        server.stop()
