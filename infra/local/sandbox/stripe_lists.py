"""What the list operations take that the official schema file leaves out, in its form.

From the SDK's generated parameter classes (stripe 16.1.0, params/_charge_list_params.py and its like).
"""
_TEXT, _NUMBER = {"type": "string"}, {"type": "integer"}
_WHEN = {"anyOf": [{"type": "object", "additionalProperties": False, "properties": dict.fromkeys(("gt", "gte", "lt", "lte"), _NUMBER)}, _NUMBER]}
_EVERY = {"created": _WHEN, "ending_before": _TEXT, "starting_after": _TEXT, "limit": _NUMBER, "expand": {"type": "array", "items": _TEXT}}


def _list(**more):
    return {"type": "object", "additionalProperties": False, "properties": {**_EVERY, **more}}


REQUESTS = {
    "GET /v1/charges": _list(customer=_TEXT, payment_intent=_TEXT, transfer_group=_TEXT),
    "GET /v1/refunds": _list(charge=_TEXT, payment_intent=_TEXT),
    "GET /v1/disputes": _list(charge=_TEXT, payment_intent=_TEXT),
    "GET /v1/invoice_payments": _list(
        invoice=_TEXT, status={"enum": ["canceled", "open", "paid"]},
        payment={"type": "object", "additionalProperties": False, "required": ["type"],
                 "properties": {"payment_intent": _TEXT, "payment_record": _TEXT, "type": {"enum": ["payment_intent", "payment_record"]}}}),
}
