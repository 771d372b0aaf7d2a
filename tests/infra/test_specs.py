"""The rule by which the specifications beside the sandboxes were trimmed: things may be left out, nothing added, changed or loosened."""
import json

from infra import specs

OFFICIAL = {"$defs": {"thing": {"type": "object", "required": ["a"], "properties": {
    "a": {"type": "string", "enum": ["x", "y"]}, "type": {"type": "string"}, "b": {"anyOf": [{"$ref": "#/$defs/other"}, {"type": "null"}]}}}, "other": {"type": "object"}}}


def changed(**properties):
    """What is said against the official file with only these properties of `thing` left."""
    thing = {**OFFICIAL["$defs"]["thing"], "properties": properties}
    return specs.differences({"$defs": {"thing": thing}}, OFFICIAL)


def test_things_may_be_left_out_and_objects_and_parameters_cut():
    right = OFFICIAL["$defs"]["thing"]["properties"]
    assert specs.differences(OFFICIAL, OFFICIAL) == changed(a=right["a"]) == changed(a={"x-cut": True}) == []
    assert changed(b={"anyOf": [{"type": "object", "x-stripe-object": "other"}, {"type": "null"}]}) == []


def test_what_is_added_changed_or_loosened_is_told():
    assert changed(c={"type": "string"}) == ["/$defs/thing/properties/c is not in the official file"]
    assert changed(a={"type": "string"}) == ["/$defs/thing/properties/a/enum was left out"]
    assert changed(a={"type": "string", "enum": ["x"]}) == ["/$defs/thing/properties/a/enum differs"]
    assert changed(b={"anyOf": [{"type": "null"}]}) == ["/$defs/thing/properties/b/anyOf differs"]
    assert changed(type={"type": "integer"}) == ["/$defs/thing/properties/type/type differs"]


def test_the_specifications_stay_small_and_each_says_where_it_is_from_and_under_which_licence():
    files = [path for path in specs.KEPT.iterdir() if path.suffix == ".json"]
    assert len(files) == 8 and sum(path.stat().st_size for path in specs.KEPT.iterdir()) < 400_000
    for path in files:
        said = json.loads(path.read_text())
        note = said.get("$comment") or json.dumps(said["x-notice"])
        assert "Apache-2.0" in note and "paypal-rest-api-specifications" in note if path.name.startswith("paypal.") else (
            "MIT" in note and ("stripe 16.1.0" in note or "discord-api-spec" in note))
    assert {path.name for path in specs.KEPT.iterdir()} >= {
        "LICENSE.discord-api-spec", "LICENSE.stripe-python", "LICENSE.paypal-rest-api-specifications"}
