"""What every test may use: the embedded AWS, one for each process of the run, and a clean one for each test that asks."""

import os

import pytest

from infra.local import aws
from infra.local.sandbox import spec

TOGETHER = ("api", "browser", "infra")      # folders whose tests share one running instance or one package


@pytest.hookimpl(tryfirst=True)     # pytest-xdist reads the marks in the same hook: after it nobody would
def pytest_collection_modifyitems(items):
    """On two processes (`make test`) a folder that shares something slow stays on one, any other file too; explorations need not."""
    for item in items:
        folder = item.path.parent.name
        if folder in TOGETHER or folder != "tests":
            item.add_marker(pytest.mark.xdist_group(folder if folder in TOGETHER else f"{folder}/{item.path.name}"))


@pytest.fixture(scope="session")
def embedded_aws():
    """Yield a running embedded AWS with empty tables and queues; this process's AWS settings point at it."""
    before = dict(os.environ)
    server = aws.EmbeddedAws(stage="local").start()
    aws.use(server.endpoint, "local")
    yield server
    server.stop()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def clean_tables(embedded_aws):
    """Yield the embedded AWS with nothing in any table or queue."""
    embedded_aws.reset()
    return embedded_aws


@pytest.fixture(autouse=True)
def answers_keep_to_the_specifications():
    """Every answer and event that a sandbox in this process gives during the test holds to the official specifications."""
    with spec.watched() as found:
        yield
    assert [one for one in found if one["side"] != "request"] == []
