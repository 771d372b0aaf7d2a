"""What several tests of this folder need: the package, built once."""
import json

import pytest

from tests import packaged


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """The folder that packaging leaves (about 12 s, once)."""
    return packaged.build(tmp_path_factory.mktemp("package") / packaged.STAGE)


@pytest.fixture(scope="session")
def template(built):
    """The packaged template, not yet as CloudFormation gets it: read, never changed."""
    return json.loads((built / "sam.json").read_text())
