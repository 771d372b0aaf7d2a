"""Our few lines of Stripe's signature scheme against the SDK's own, over thousands of right and broken headers."""
import ast
import pathlib
import random
import re
import time

import pytest
import stripe as sdk

from chalicelib.intake import verify_stripe
from chalicelib.problem import Problem

ROOT = pathlib.Path(__file__).parents[2]
SECRETS = ("whsec_theFirst0000000000", "whsec_theSecond000000000")
OTHER = "whsec_somebodyElses000000"


def ours(body, header, *, wall, secrets=SECRETS[:1]):
    """Whether the intake takes it."""
    try:
        verify_stripe(body, header, secrets=secrets, wall=wall)
        return True
    except Problem as refused:
        assert refused.status == 400
        return False


def theirs(body, header, secret=SECRETS[0]):
    """Whether the SDK takes it now."""
    try:
        return sdk.WebhookSignature.verify_header(body.decode(), header, secret, tolerance=300)
    except (sdk.SignatureVerificationError, ValueError):
        return False


def signed(body, at, secret=SECRETS[0]):
    return f"t={at},v1={sdk.WebhookSignature._compute_signature(f'{at}.{body.decode()}', secret)}"


def bodies(chance):
    alphabet = "abc{}[]\":,0123456789 \n\r\tä€😀\u2028\u0000"
    return "".join(chance.choice(alphabet) for _ in range(chance.randrange(200))).encode()


def test_T45_what_the_SDK_signs_now_is_taken_and_with_another_secret_it_is_not():
    chance, now = random.Random(1), int(time.time())
    for _ in range(500):
        body, at = bodies(chance), now - chance.randrange(290)
        header = signed(body, at)
        assert ours(body, header, wall=now) and theirs(body, header)
        assert not ours(body, signed(body, at, OTHER), wall=now)


def _broken(chance, body, now):
    """A header made of right and wrong parts, in any order, often in odd spellings."""
    right = signed(body, now).partition("v1=")[2]
    wrong = signed(body, now, OTHER).partition("v1=")[2]
    parts = [f"t={now}", f"t={now}", f"t={now - 10}", f"t={now}x", "t=", "t", f" t={now}", f"T={now}", f"t=={now}", f"v1={right}", f"v1={right}", f"v1={right}",
             f"v1={right.upper()}", f"v1={wrong}", f"v1={right[:-2]}", f"v1={right}00", f"v0={right}", f"V1={right}", f"v1 ={right}", f"v1= {right}", f"v1={right} ", f"v2={right}", "v1=", "v1", "", "x=y"]
    return chance.choice([",", ",", ", ", ";"]).join(chance.choice(parts) for _ in range(chance.randrange(1, 5)))


def test_fault_8_A1_nothing_that_the_SDK_refuses_is_taken_however_the_header_is_put_together():
    chance, now, taken = random.Random(2), int(time.time()), 0
    for _ in range(5_000):
        body = bodies(chance)
        header = _broken(chance, body, now)
        if ours(body, header, wall=now):
            taken += 1
            assert theirs(body, ",".join(part.strip() for part in header.split(",") if "=" in part)), header   # white space and empty parts are nothing to us
    assert taken > 100, "the cases are not all nonsense"


def test_A2_one_changed_bit_anywhere_is_refused():
    chance, now = random.Random(3), int(time.time())
    body = b'{"id":"evt_1","object":"event","livemode":false}'
    header = signed(body, now)
    for position in range(len(body)):
        changed = bytearray(body)
        changed[position] ^= 1 << chance.randrange(8)
        assert not ours(bytes(changed), header, wall=now)
    for position in range(header.index("v1=") + 3, len(header)):
        other = "0" if header[position] != "0" else "1"
        assert not ours(body, header[:position] + other + header[position + 1:], wall=now)


@pytest.mark.parametrize("passed, taken", [(-301, False), (-300, True), (0, True), (300, True), (301, False), (86_400, False), (-365 * 86_400, False)])
def test_fault_7_A4_five_minutes_either_way_to_the_second_while_the_SDK_takes_any_future(passed, taken):
    now = int(time.time())
    assert ours(b"{}", signed(b"{}", now), wall=now + passed) is taken
    if passed < -300:
        assert theirs(b"{}", signed(b"{}", now - passed)), "why the check is our own"


def test_fault_50_T46_while_rotating_either_secret_will_do_and_afterwards_the_old_one_will_not():
    now, body = int(time.time()), b'{"a":1}'
    old, new = signed(body, now, SECRETS[0]), signed(body, now, SECRETS[1])
    both = f"{old},{new.split(',')[1]}"
    for header in (old, new, both, f"{new},{old.split(',')[1]}"):
        assert ours(body, header, wall=now, secrets=SECRETS), header
    assert ours(body, both, wall=now, secrets=SECRETS[1:]) and not ours(body, old, wall=now, secrets=SECRETS[1:])
    assert not ours(body, signed(body, now, OTHER), wall=now, secrets=SECRETS) and not ours(body, both, wall=now, secrets=())


def test_fault_8_a_header_of_any_shape_is_refused_and_never_an_error():
    for header in (None, 1, b"t=1", ["t=1"], "", "\0", "t=1\n,v1=0", "t=١,v1=" + "0" * 64, "t=" + "1" * 5_000, "," * 4_000, "t=1," * 2_000):
        assert not ours(b"{}", header, wall=time.time())


def test_A16_no_secret_signature_or_digest_is_compared_in_a_time_that_tells():
    """Anywhere in the product: such a name stands beside `==`, `!=` or `in` only where its kind or presence is asked for."""
    told = [f"{path.name}:{node.lineno}" for path in (ROOT / "chalicelib").rglob("*.py") for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops)
            and any(re.search(r"secret|signature|digest|csrf|verifier|\bright\b|\bgiven\b", ast.unparse(side)) for side in (node.left, *node.comparators))]
    assert told == []


@pytest.mark.parametrize("says", [True, False])
def test_A16_the_constant_time_comparison_alone_decides(monkeypatch, says):
    from chalicelib import intake
    monkeypatch.setattr(intake.hmac, "compare_digest", lambda one, other: says)
    now = int(time.time())
    for header in (signed(b"{}", now), f"t={now},v1={'0' * 64}"):
        assert ours(b"{}", header, wall=now) is says
