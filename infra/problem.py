"""The answer to an address that does not exist, the same from API Gateway (infra/package.py) and from infra/local/web.py."""

import json

CONTENT_TYPE = "application/problem+json"
NOTHING_HERE = "There is nothing at this address. Check it, or go back to your profile."


def problem(*, status, title, detail):
    """Answer an RFC 9457 problem as JSON text."""
    return json.dumps({"type": "about:blank", "title": title, "status": status, "detail": detail})
