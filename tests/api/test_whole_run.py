"""What the whole run of this folder has left behind: poison in the dead-letter queues and nothing else, and logs that keep quiet."""
import json
import re
from collections import Counter

from infra.local.run import PAYPAL, STRIPE_KEY, WEBHOOK_SECRET
from infra.local.sandbox.discord import SANDBOX_APP
from infra.local.walker import wait_for
from tests.api.town import never_logged
from tests.instance import QUEUES


def test_fault_9_T9_I10_poison_ends_in_the_dead_letter_queues_and_the_others_went_on(poison, town):
    town.buyer()
    wait_for(lambda: len(town.operator.dead()) >= len(QUEUES) * len(poison), 40, "all poison is in the dead-letter queues")
    assert Counter(town.operator.dead()) == Counter(poison * len(QUEUES)), "and nothing else is"


def test_D8_I11_no_secret_cookie_token_address_or_personal_data_is_in_the_log(town):
    # Rows: C5
    town.buyer()
    log = town.instance.log()
    assert len(log.splitlines()) > 20
    secrets = never_logged | {STRIPE_KEY, WEBHOOK_SECRET, PAYPAL.client_id, PAYPAL.secret, "BA-", "Bearer ", SANDBOX_APP["client_secret"], SANDBOX_APP["bot_token"], "whsec_", "sk_test_"}
    assert [one for one in secrets if len(one) > 5 and one in log] == []
    assert re.findall(r"(?i)\S*(?:@canary|canary|@example\.org)\S*", log) == []
    users = {row["user_id"] for row in town.operator.rows("members")}
    assert len(users) >= 1 and [user for user in users if user in log] == [], "people appear as short hashes only"


def test_I11_the_log_has_one_schema_and_no_error_but_the_poisons(town):
    lines = [json.loads(line) for line in town.instance.log().splitlines() if line.startswith("{")]
    allowed = {"level", "message", "timestamp", "service", "server", "outcome", "cause", "why", "seconds", "kind", "count", "queue", "function", "error",
               "message_id", "subject", "account"}
    assert set().union(*lines) <= allowed
    assert {(line["message"], line["error"].split()[0]) for line in lines if line["level"] == "ERROR"} <= {("record_failed", "Unusable"), ("record_failed", "RecursionError")}
    assert all(re.fullmatch("[0-9a-f]{12}", line["subject"]) for line in lines if "subject" in line)
    assert "Traceback" not in town.instance.log()


def test_no_lease_and_no_request_is_left_open_where_nothing_is_in_doubt(town):
    """Every membership that is not waiting for Discord to answer is accounted for."""
    town.buyer()
    alive = [row for row in town.operator.rows("members") if "requested" in row]    # the others are what is left of erased ones
    open_rows = [row for row in alive if "lease" not in row and row["requested"] != row["done"]
                 and all(role["state"] == "held" or role["state"] == "absent" for role in row["roles"].values()) and not row.get("due_at")]
    assert open_rows == []


def test_no_table_holds_an_email_a_card_or_a_portal_address(town):
    # Rows: C5
    town.buyer()
    held = str([town.operator.rows(name) for name in ("members", "links", "servers", "ledger", "sessions")])
    assert "@" not in held.replace("terms@", "") and "4242424242424242" not in held and "/p/session" not in held and "/c/pay" not in held and "BA-" not in held and "webapps" not in held


def test_every_request_answer_and_event_of_the_whole_run_held_to_the_official_specifications(town):
    town.buyer()
    assert town.instance.violations() == []
    asked = {(one["method"], one["status"]) for one in town.sandbox.stripe("GET", "/requests")["requests"] if one["path"].startswith("/v1/")}
    assert ("POST", 200) in asked and town.discord_calls(), "and there was something to see"
