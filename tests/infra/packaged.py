"""What is packaged for the tests: the stage, and the secrets that lie about meanwhile and must not get into it."""

STAGE = "prod"
CANARIES = {name: f"{prefix}Canary0Canary0Canary0{number}" for number, (name, prefix) in enumerate({
    "STRIPE_API_KEY": "sk_test_", "STRIPE_WEBHOOK_SECRET": "whsec_", "DISCORD_CLIENT_SECRET": "discord",
    "DISCORD_BOT_TOKEN": "bot"}.items())}
