"""`python -m infra.bench.fakes`: both sandboxes in a process of their own, so that their CPU is not the product's.

It says {"stripe_url", "discord_url"}, then unasked each change of a role that Discord was told of: {"user", "shown", "at"}.
`at` is the monotonic clock, which all processes of a machine share. Webhooks are not delivered from here: the bench posts them.
"""
import re
import time

from infra.bench.child import Voice
from infra.local.run import STRIPE_KEY
from infra.local.sandbox import discord, stripe
from infra.local.sandbox.clock import SandboxClock
from infra.local.sandbox.discord_limits import GENEROUS
from infra.local.sandbox.http import serve

ROLE_CALL = re.compile(r"/api/v10/guilds/\d+/members/(?P<user>\d+)/roles/\d+")
NO_LIMITS = {name: (10**9, 1.0) for name in GENEROUS}   # a 429 would measure Discord's limits, which are written down already


def main():
    """Serve until standard input ends."""
    voice, clock = Voice(), SandboxClock()
    world = discord.DiscordSandbox(clock=clock, limits=NO_LIMITS)

    def told(method, target, headers, body):
        answer = world.handle(method, target, headers, body)
        call = ROLE_CALL.fullmatch(target)
        if call and answer[0] == 204:
            voice.say({"unasked": {"user": call["user"], "shown": method == "PUT", "at": time.monotonic()}})
        return answer

    guilds, bank = serve(told), stripe.serve(clock=clock, api_keys=(STRIPE_KEY,))
    voice.say({"stripe_url": bank.url, "discord_url": guilds.url})
    voice.answer({})
    guilds.stop()
    bank.stop()


if __name__ == "__main__":
    main()
