"""One running Rolekeep for all tests of this folder, met over HTTP only; each test has a Discord server and people of its own."""
import pytest

from tests.api.town import Sender, Town
from tests.instance import QUEUES, Instance, Operator

SPEED = "90"    # a sweep about every 0.7 s, a failed message again after 4 s


@pytest.fixture(scope="session")
def instance(tmp_path_factory):
    """Yield a running product with its sandboxes and without demo data."""
    with Instance(tmp_path_factory.mktemp("rolekeep"), SPEED=SPEED) as running:
        yield running


@pytest.fixture(scope="session")
def operator(instance):
    """What an operator sees beside the product: tables and queues."""
    return Operator(instance)


@pytest.fixture(scope="session", autouse=True)
def poison(operator):
    """What no worker can use is in each queue from the beginning, so that all other tests run beside it; answers its texts."""
    messages = ["not JSON", "[]", '{"v":99}', '{"v":1}', '{"v":1,"user":"1#2","server":"x","account":"operator","subscription":"sub_1#x","event":"evt_1"}', "[" * 5_000]
    for queue in QUEUES:
        for message in messages:
            operator.send(queue, message)
            operator.poison += 1
    return messages


@pytest.fixture(scope="module", autouse=True)
def forgetting(instance):
    """After each module a month passes: the Stripe sandbox then forgets its events, and is as quick as at the beginning."""
    yield
    instance.sandboxes().advance(31 * 86_400)


@pytest.fixture
def sandbox(instance):
    """Yield the controls of the sandboxes; faults that a test ordered are gone after it, held webhooks are on their way."""
    controls = instance.sandboxes()
    yield controls
    for order in (controls.stripe, controls.discord, controls.paypal):
        order("DELETE", "/faults")
    for order in (controls.stripe, controls.paypal):
        order("POST", "/release", {})


@pytest.fixture
def town(instance, operator, sandbox):
    """Yield a Discord server that sells three offers; after the test its subscriptions are over and it asks for no more work."""
    made = Town(instance, operator, sandbox)
    yield made
    made.close()


@pytest.fixture
def stripe(instance):
    """Stripe as the sender of webhooks: signs what it likes, and posts it."""
    return Sender(instance)
