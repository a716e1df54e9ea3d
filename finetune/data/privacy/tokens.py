"""Keys and tokens that their makers gave a beginning of their own, private keys, and passwords in addresses.

The beginnings and lengths are those that the services document or that their own tokens show; where a service has
changed the length, the shortest stands here.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from finetune.data.privacy.assigned import assigned, looks_drawn, telegram
from finetune.data.privacy.finding import PASSWORD, PRIVATE_KEY, TOKEN, Finding, Hit

_WORD = r"[A-Za-z0-9]"
_WEB = r"[A-Za-z0-9_-]"


class Token(NamedTuple):
    """A kind of key: what it begins with and what follows."""

    detail: str
    begins: tuple[str, ...]
    #: Regular expression for the rest.
    rest: str


TOKENS = (
    Token("OpenAI key", ("sk-proj-", "sk-svcacct-", "sk-admin-", "sk-None-"), _WEB + "{20,}"),
    Token("Anthropic key", ("sk-ant-",), _WEB + "{20,}"),
    Token("OpenRouter key", ("sk-or-",), _WEB + "{20,}"),
    # OpenAI's older form; DeepSeek, LiteLLM and others took it over.
    Token("OpenAI-style key", ("sk-",), r"(?=[A-Za-z_-]{0,60}[0-9])[A-Za-z0-9_-]{20,}"),
    Token("AWS access key", ("AKIA", "ASIA", "ABIA", "ACCA"), r"[A-Z2-7]{16}(?![A-Za-z0-9])"),
    Token("GitHub token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), _WORD + "{36,}"),
    Token("GitHub token", ("github_pat_",), r"[A-Za-z0-9_]{22,}"),
    Token(
        "GitLab token",
        ("glpat-", "gldt-", "glrt-", "glcbt-", "glptt-", "glft-", "glsoat-", "glimt-", "glagent-", "gloas-"),
        r"[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]+)*",
    ),
    Token(
        "Slack token",
        ("xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe-", "xoxe.", "xoxc-", "xoxd-", "xapp-"),
        r"[A-Za-z0-9.%-]{16,}",
    ),
    Token("Slack webhook", ("hooks.slack.com/services/", "hooks.slack.com/workflows/"), r"[A-Za-z0-9/]{20,}"),
    Token("Discord webhook", ("discord.com/api/webhooks/", "discordapp.com/api/webhooks/"), r"[0-9]{16,20}/[\w-]{40,}"),
    Token("Google API key", ("AIza",), _WEB + r"{35}(?![A-Za-z0-9_-])"),
    Token("Google OAuth secret", ("GOCSPX-",), _WEB + "{20,}"),
    Token("Google access token", ("ya29.",), _WEB + "{20,}"),
    Token("Stripe key", ("sk_live_", "sk_test_", "rk_live_", "rk_test_"), _WORD + "{16,}"),
    Token("Stripe webhook secret", ("whsec_",), r"[A-Za-z0-9+/]{24,}={0,2}"),
    Token("Hugging Face token", ("hf_", "api_org_"), _WORD + r"{34,}"),
    Token("JSON web token", ("eyJ",), r"[A-Za-z0-9_-]{10,2000}\.[A-Za-z0-9_-]{8,20000}\.[A-Za-z0-9_-]{16,}"),
    Token("npm token", ("npm_",), _WORD + r"{36}(?![A-Za-z0-9])"),
    Token("PyPI token", ("pypi-",), _WEB + "{50,}"),
    Token("SendGrid key", ("SG.",), r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}"),
    Token("Twilio key", ("SK",), r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    Token("Groq key", ("gsk_",), _WORD + "{40,}"),
    Token("xAI key", ("xai-",), _WORD + "{40,}"),
    Token("Perplexity key", ("pplx-",), _WORD + "{40,}"),
    Token("NVIDIA key", ("nvapi-",), _WEB + "{40,}"),
    Token("Replicate token", ("r8_",), _WORD + "{37,}"),
    Token("Together key", ("tgp_v1_",), _WEB + "{40,}"),
    Token("Fireworks key", ("fw_",), _WORD + "{22,}"),
    Token("Databricks token", ("dapi",), r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    Token("DigitalOcean token", ("dop_v1_", "doo_v1_", "dor_v1_"), r"[0-9a-f]{64}"),
    Token("Shopify token", ("shpat_", "shpca_", "shppa_", "shpss_"), r"[0-9a-fA-F]{32}"),
    Token("Docker token", ("dckr_pat_",), _WEB + "{20,}"),
    Token("Vault token", ("hvs.", "hvb.", "hvr."), _WEB + "{24,}"),
    Token("Linear key", ("lin_api_",), _WORD + "{32,}"),
    Token("Notion token", ("ntn_",), _WORD + "{40,}"),
    Token("Postman key", ("PMAK-",), r"[0-9a-f]{24}-[0-9a-f]{34}"),
    Token("Atlassian token", ("ATATT3", "ATCTT3", "ATBB"), r"[A-Za-z0-9_=-]{28,}"),
    Token("New Relic key", ("NRAK-",), r"[A-Z0-9]{27}"),
    Token("Supabase key", ("sbp_", "sb_secret_"), _WEB + "{24,}"),
    Token("age secret key", ("AGE-SECRET-KEY-1",), r"[A-Z0-9]{58}"),
)

#: What a run of signs is made of that may hold a key, and how long the shortest is (an AWS key has 20).
RUN_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-+/.~"
SHORTEST_RUN = 16

_BY_BEGINNING = {begin: (token.detail, re.compile(token.rest)) for token in TOKENS for begin in token.begins}
_ANY = "|".join(map(re.escape, sorted(_BY_BEGINNING, key=len, reverse=True)))
_BEGINNING = re.compile(_ANY)
#: Within a run a key begins after a sign that is no letter or digit.
_LATER = re.compile(f"[_+/.~-]({_ANY})")

_KEY_HEAD = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,10} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_BODY = re.compile(
    r"(?:(?:\s|\\[nrt])*+(?:(?:Proc-Type|DEK-Info|Version|Comment): [^\n\\]{0,100}|[A-Za-z0-9+/]{16,}={0,2}))*+"
    r"(?:(?:\s|\\[nrt])*+=?[A-Za-z0-9+/]{0,15}={0,2}(?:\s|\\[nrt])*+-----END [A-Z0-9 ]{0,40}-----)?"
)
_CREDENTIALS = re.compile(r"://[^\s:/@?#\"'<>]{0,64}:([^\s/@\"'<>{}$%*\[\]]{4,128})@[A-Za-z0-9]")
_NO_PASSWORD = re.compile(
    r"(?i)pass(?:word|wd)?|pwd?|secret|x{3,}|token|changeme|your.*|my.{0,9}pass.*|user.*|admin|root|test|tiger"
)


def tokens(text: str, start: int, end: int) -> Iterator[Hit]:
    """The keys and tokens that begin in one long run of signs of `text`."""
    if text[start - 1 : start] == "\\" and text[start] in "nrtbf":
        start += 1
    yield from _with_beginning(text, start, end)
    yield from telegram(text, start, end)
    yield from assigned(text, start, end)


def _with_beginning(text: str, start: int, end: int) -> Iterator[Hit]:
    found = _BEGINNING.match(text, start, end) or _LATER.search(text, start, end)
    while found:
        at, after = found.span(found.lastindex or 0)
        detail, rest = _BY_BEGINNING[text[at:after]]
        value = rest.match(text, after)
        if value and looks_drawn(value.group()):
            yield Hit(TOKEN, Finding("secret", detail, at, value.end()))
        # Past the value in either case: its signs are read once.
        found = _LATER.search(text, value.end() if value else at, end)


def private_keys(text: str) -> Iterator[Hit]:
    """The private keys in PEM or PGP armour, cut-off ones too; line ends may be written as `\\n`."""
    free = 0
    for head in _KEY_HEAD.finditer(text):
        body = _KEY_BODY.match(text, head.end()) if head.start() >= free else None
        if body and len(body.group()) >= 40:
            free = body.end()
            yield Hit(PRIVATE_KEY, Finding("secret", "private key", head.start(), free))


def credentials(text: str) -> Iterator[Hit]:
    """The passwords in addresses such as `postgres://user:password@host`."""
    at = text.find("://")
    while at >= 0:
        found = _CREDENTIALS.match(text, at)
        if found and not _NO_PASSWORD.fullmatch(found.group(1)):
            yield Hit(PASSWORD, Finding("secret", "password in an address", *found.span(1)))
        at = text.find("://", at + 3)
