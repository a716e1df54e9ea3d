"""What looks like personal data or a secret and is none. Some of it is other texts' daily bread: code, tables, logs."""

import random
import uuid

import pytest

from finetune.data.privacy import find
from tests.unit.data.privacy.fakes import ARMOUR, DRAWN, HEX, drawn, token

MISSES = [
    # No addresses
    "user@example.com",
    "ada@mail.example.org, bob@firm.example, c@x.test, d@y.invalid, e@localhost, f@printer.local",
    "@ada and @bob_2 said hi to @c.d",
    "@app.route('/x')\n@pytest.mark.parametrize(x)\ndef f(): ...",
    "@ada@social.net",
    "git@github.com:org/repo.git",
    "https://ada@host.net/x",
    "logo@2x.png icon@3x.jpg",
    "react@18.2.0 lodash@4.17.x",
    "actions/checkout@v4.1.0",
    "image@sha256:" + HEX,
    "x@w.T + self.x@self.weight",
    "a@b, a@b.c, @, a@, @b.de, a@.de, a@-x.de, a@b..de",
    "a @ b.de",
    "name(at)firm.com",
    "x@y.mean()",
    # No telephone numbers
    "order 4711234567 and 03090182012",
    "#0171-1234567",
    "on 2024-01-02, 02.01.2024, 1/2/2024 and 01-02-24",
    "192.168.0.1 10.0.0.255 010.020.030.040",
    "2024-01-02T03:04:05+0200",
    "from 1999-2004, 1914-1918",
    "0.123456789 and 3.14159265 and 0,5",
    "1 000 000 or 12 345 678 or 100.000.000",
    "f(x) = 1+1234567890",
    "a +1 b, +49, +1234",
    "+12345678901234567890",
    "555-0123 or (415) 555-0132 or +1 415 555 0199",
    "000-000-0000 and 123-456-7890",
    "iPhone 4155552671, hotel 4155552671, antelope 4155552671",
    "0x03090182 and 0123456789abcdef",
    "lat 52.520008, long 13.404954",
    "(1999) 12345",
    "ISBN 978-3-16-148410-0 and 0-306-40615-2",
    "078-05-1120",
    "v1.2.3-4567890",
    "$415.726.2671",
    "page 030 of 901820",
    "00000000  7f 45 4c 46 02 01 01 00  00 00 00 00 00 49 30 90 18 20 11 22",
    "00 01 02 03 04 05 06 07 08 09",
    "ISSN 0209-9683, 04:05:06.000-01:00",
    # No payment cards
    "0000 0000 0000 0000",
    "1234 5678 9012 3456",
    "4242 4242 4242 4241",
    "4242424242424242424242",
    "x4242424242424242",
    "4242424242424242-1",
    "0.4242424242424242",
    "4000 1000 4000 1000 4000 1000 4000 1000 4000",
    "EAN 4006381333931",
    "1700000000000 and 1700000000000000",
    "IMEI 490154203237518",
    "id/4242424242424242/x",
    "ab-4242424242424242 or 4242424242424242-x1",
    # No bank accounts
    "DE89 3704 0044 0532 0130 01",
    "DE00 0000 0000 0000 0000 00",
    "DE89 3704 0044 0532 0130",
    "XX89370400440532013000",
    "DE893704004405320130001",
    "ADE89370400440532013000",
    # No national ids
    "36574261808",
    "order 39053344705, part 111222333, box 943 476 5919",
    "robsno 111222333, misinfo 123456782",
    "2020 2021 2022",
    "2341 2341 2346 2341",
    "123456789012 1234567890 123456789",
    "12345678A X1234567A",
    "000-12-3456 666-12-3456 123-00-4567 123-45-0000",
    "12/31/1999 23:59:59",
    # python-stdnum 2.2 raises KeyError here instead of saying no.
    "344856195712119174",
    "AB123456C and QQ 12 34 56 C",
    "20240131T120000Z",
    "ABCDEF12G34H567I",
    "550e8400-e29b-41d4-a716-446655440000",
    "12345678-1234-4234-8234-123456789012",
    HEX,
    HEX.upper(),
    "aa:bb:cc:dd:ee:ff 00-1A-2B-3C-4D-5E",
    "2.16.840.1.113883.3.4",
    "120000000000000000",
    "RFC2606 ISO8601 UTF8 SHA256 A4 B52",
    # No secrets
    token("AK", "IA", "IOSFODNN7EXAMPLE"),
    token("s", "k-", "your-openai-api-key-goes-here1"),
    token("s", "k-", "x" * 48),
    token("s", "k-", "toggleable__label-arrow-sk-parallel-item2"),
    "a risk-adjusted-and-rather-long-hyphenated-word-1",
    token("gh", "p_", "x" * 36),
    token("h", "f_", "model_name_or_path_with_many_words_in_it"),
    token("ey", "J", "hbGciOiJIUzI1NiJ9"),
    "api_key = os.environ['OPENAI_API_KEY']",
    'api_key = "your-api-key-here-please-1"',
    "api_key=settings.providers.openai2.api_key1",
    "secret_key = get_secret_from_vault_v2(name)",
    "token = tokenizer_output_2024[0]",
    "secret = mysecretpassphrase123",
    "next_page_token=" + DRAWN[:20],
    "the token classification_of_2024_papers",
    "password: required",
    "password = getpass()",
    "password: str = Field(min_length=8)",
    "password: ********",
    "password: typing.TypeAlias | _PasswordType | None",
    '"PasswordLastUsed": "2016-09-08T21:47:36Z"',
    "postgres://user:password@localhost/db",
    "https://host:8080/x@y",
    "postgres://${USER}:${PASSWORD}@db",
    f"{ARMOUR.format('BEGIN')}\n...\n{ARMOUR.format('END')}",
    "-----BEGIN CERTIFICATE-----\n" + drawn(64) + "\n-----END CERTIFICATE-----",
    "-----BEGIN PUBLIC KEY-----\n" + drawn(64) + "\n-----END PUBLIC KEY-----",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + drawn(30),
    f"commit {HEX[:40]}",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ",
    "/usr/lib/python3/dist-packages/some_package_2/__init__.py",
    "test_that_the_api_key_is_not_logged_1",
    # Already redacted
    "[EMAIL_1] [PHONE] [CARD_22] [IBAN_3] [NATIONAL_ID_4] [SECRET_5]",
    "password: [SECRET_1]",
    "[PHONE_1] 4155552671",
    "",
    " \n\t\0",
]


@pytest.mark.parametrize("text", MISSES)
@pytest.mark.parametrize("around", ["{}", "({})", "a\n{}\nb"])
def test_it_is_let_alone(text: str, around: str) -> None:
    whole = around.format(text) if "{" not in text else text

    assert [(each.kind, each.detail, whole[each.start : each.end]) for each in find(whole)] == []


def test_uuids_prices_dates_and_hashes_are_let_alone() -> None:
    lot = random.Random(5)
    text = "\n".join(
        f"{uuid.UUID(int=lot.getrandbits(128))} {lot.randbytes(20).hex()} {lot.randint(1, 99999)}.99 USD "
        f"{lot.randint(1, 28)}.{lot.randint(1, 12)}.{lot.randint(1990, 2030)} {lot.randint(1, 10**8)}"
        for _ in range(2000)
    )

    assert find(text) == []


def test_what_chance_may_hit_is_rare() -> None:
    lot = random.Random(6)
    rows = [f"order {lot.randint(10**10, 10**11 - 1)} shipped" for _ in range(5000)]

    hits = sum(map(len, map(find, rows)))

    # The documentation says seven in a thousand.
    assert 15 <= hits <= 55
