"""The product in process over the embedded AWS: for what cannot be seen or timed from outside."""
import json
import logging
import os

import pytest
from chalice.config import Config

from infra.local.web import Gateway
from tests.usecases.memory import BEGIN, Memory
from tests.usecases.product import ENVIRONMENT, Product, Time
from tests.worlds.seam import installed


def _forget():
    """Clients and settings that the product keeps are made anew by whoever comes next."""
    from chalicelib import settings
    from chalicelib.gateways import paypal, queues, stripe, wire
    from chalicelib.store.tables import MODELS
    paypal._tokens.clear()
    MODELS[0]._get_connection().connection._client = None
    for cached in (settings.get, stripe._client, queues._client, queues._url, wire.session):
        cached.cache_clear()


@pytest.fixture(scope="package")
def clients(embedded_aws):
    """The product's clients talk to the embedded AWS for as long as tests of this folder run."""
    before = dict(os.environ)
    os.environ.update(ENVIRONMENT)
    _forget()
    yield
    os.environ.clear()
    os.environ.update(before)
    _forget()


@pytest.fixture
def product(clients, clean_tables):
    """Yield the product over empty tables, with a furnished server."""
    from chalicelib import ports, settings
    from chalicelib.gateways import paypal, stripe, wire
    moved = Time()
    before = ports.use(moved)
    paypal._tokens.clear()
    for cached in (settings.get, stripe._client, wire.session):
        cached.cache_clear()
    made = Product(clean_tables, moved)
    made._mount(wire.session())
    made.furnish()
    yield made
    ports.use(before)
    assert [sandbox.contract.violations.as_json()["violations"] for sandbox in (made.stripe.front, made.discord.front, made.paypal.front)] == [[], [], []]


@pytest.fixture
def made(clients):
    """Yield a function that makes a Product whose webhooks are posted by `post`; its tables and queues are in memory."""
    from chalicelib import log, ports, settings
    from chalicelib.gateways import paypal, queues, stripe, wire
    moved = Time()
    moved.at = BEGIN
    before = ports.use(moved)
    paypal._tokens.clear()
    for cached in (settings.get, stripe._client, wire.session, queues._url):
        cached.cache_clear()
    memory = Memory(moved)

    def make(post):
        product = Product(memory, moved, post)
        product._mount(wire.session())
        product.furnish()
        return product

    level = log._logger().level
    log._logger().setLevel(logging.CRITICAL)    # ten thousand lines that nobody reads
    with installed(memory.tables, memory.queues):
        yield make
    log._logger().setLevel(level)
    queues._url.cache_clear()
    ports.use(before)


@pytest.fixture
def call(product):
    """Yield a function that calls the app as API Gateway does: (method, path, headers, body bytes) -> Answer."""
    import app
    gateway = Gateway(app.app, Config())

    def called(method, path, headers=None, body=None):
        lower = {name.lower(): value for name, value in (headers or {}).items()}
        return Answer(gateway.handle_request(method=method, path=path, headers=lower, body=body))

    return called


class Answer:
    """What API Gateway would send: `status`, `headers` (single values), `cookies` and `text`."""

    def __init__(self, response):
        self.status, self.headers, self.text = response["statusCode"], response["headers"], response["body"]
        self.cookies = response.get("multiValueHeaders", {}).get("Set-Cookie", [])

    def json(self):
        return json.loads(self.text)
