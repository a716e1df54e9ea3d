"""Secrets that are none, put together from pieces so that no scanner of a repository takes them for real."""

#: Drawn by lot once; no scanner of tokens fires on it, because no token's beginning stands before it.
DRAWN = "q8Z2kfL0x9Qw7Rt5Yv3BnM4cD6jH1sGpA8uE2iTzKwX7oVb9"
HEX = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
ARMOUR = "-----{} RSA PRIVATE " + "KEY-----"


def drawn(length: int) -> str:
    return (DRAWN * (length // len(DRAWN) + 1))[:length]


def token(*parts: str | int) -> str:
    """A fake token: numbers stand for so many signs drawn by lot."""
    return "".join(drawn(part) if isinstance(part, int) else part for part in parts)


def key(end: str = "\n", closed: bool = True) -> str:
    body = f"{ARMOUR.format('BEGIN')}{end}{drawn(64)}{end}{drawn(40)}="
    return f"{body}{end}{ARMOUR.format('END')}" if closed else body


def wide(text: str) -> str:
    """The same signs in full width, as a Japanese keyboard gives them."""
    return "".join(chr(ord(sign) + 0xFEE0) for sign in text)


#: One fake of each row of the table of tokens.
FAKES = {
    "OpenAI key": ("sk", "-proj-", 60),
    "Anthropic key": ("sk", "-ant-", "api03-", 93, "AA"),
    "OpenRouter key": ("sk", "-or-", "v1-", HEX),
    "OpenAI-style key": ("s", "k-", 48),
    "AWS access key": ("AK", "IA", "J7QWE2RTY5ZXCV4B"),
    "GitHub token": ("github", "_pat_", 22, "_", 59),
    "GitLab token": ("gl", "pat-", 20),
    "Slack token": ("xo", "xb-", "123456789012-1234567890123-", 24),
    "Slack webhook": ("hooks.slack", ".com/services/", "T0A1B2C3D/B0A1B2C3D/", 24),
    "Discord webhook": ("discord", ".com/api/webhooks/", "123456789012345678/", 68),
    "Google API key": ("AI", "za", 35),
    "Google OAuth secret": ("GOC", "SPX-", 28),
    "Google access token": ("ya", "29.", 60),
    "Stripe key": ("sk", "_live_", 24),
    "Stripe webhook secret": ("wh", "sec_", 32),
    "Hugging Face token": ("h", "f_", "qZkfLxQwRtYvBnMcDjHsGpAuEiTzKwXoVb"),
    "JSON web token": ("ey", "J", 20, ".ey", "J", 40, ".", 43),
    "npm token": ("np", "m_", 36),
    "PyPI token": ("py", "pi-", "AgEIcHlwaS5vcmcC", 60),
    "SendGrid key": ("S", "G.", 22, ".", 43),
    "Twilio key": ("S", "K", HEX[:32]),
    "Groq key": ("gs", "k_", 52),
    "xAI key": ("xa", "i-", 80),
    "Perplexity key": ("ppl", "x-", 48),
    "NVIDIA key": ("nv", "api-", 64),
    "Replicate token": ("r", "8_", 37),
    "Together key": ("tg", "p_v1_", 43),
    "Fireworks key": ("f", "w_", 24),
    "Databricks token": ("da", "pi", HEX[:32]),
    "DigitalOcean token": ("do", "p_v1_", HEX),
    "Shopify token": ("shp", "at_", HEX[:32]),
    "Docker token": ("dck", "r_pat_", 27),
    "Vault token": ("hv", "s.", 90),
    "Linear key": ("lin", "_api_", 40),
    "Notion token": ("nt", "n_", 46),
    "Postman key": ("PM", "AK-", HEX[:24], "-", HEX[:34]),
    "Atlassian token": ("ATA", "TT3", 60),
    "New Relic key": ("NR", "AK-", "J7QWE2RTY5ZXCV4BN8MLP0KH3GF"),
    "Supabase key": ("sb", "p_", HEX[:40]),
    "age secret key": ("AGE-SECRET", "-KEY-1", "J7QWE2RTY5ZXCV4BN8MLP0KH3GFJ7QWE2RTY5ZXCV4BN8MLP0KH3GFQWER"),
}
