"""What is looked for, how, and what is missed: the text of the documentation."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from finetune.data.privacy.rules import RULES
from finetune.data.privacy.tokens import TOKENS


class Kind(NamedTuple):
    """One kind of finding, as the documentation tells it. Each text is whole sentences."""

    title: str
    #: How it is found.
    how: str
    #: What of this kind is not found, or found wrongly.
    misses: str


def _listed(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "email": Kind(
            "e-mail address",
            "A name, an `@` and a domain with a top level of letters. Domains that are reserved (example.com, .org and "
            ".net, .example, .test, .invalid, .localhost, .local) are passed over, as are file names such as "
            "icon@2x.png, `git@` and the user in an `https://` address.",
            "Addresses written out (`ada (at) firm (dot) com`), with `%40` for the `@`, in quotation marks or with an "
            "IP address as domain. A name or domain in a script without spaces, such as Chinese. Whether the "
            "domain exists is not asked, so a product of matrices such as `a@b.weight` is one too.",
        ),
        "phone": Kind(
            "telephone number",
            "Digits that phonenumbers takes for a valid number: with a plus, or with a leading 00; without them only "
            "as the regions asked for write it (area code in the usual group, separators), or in any grouping after "
            "a word such as `phone` or `Tel.`. 555-01xx numbers, kept for fiction, are passed over.",
            "Bare digits with no such word before them; numbers of other regions without a plus; numbers with fewer "
            "than seven digits (nine, where there is no plus and no word), with letters, commas or line breaks in "
            "them; several in a row with nothing but single spaces between. Extensions stay. A part number that is "
            "grouped like a telephone number and valid as one is taken for one.",
        ),
        "card": Kind(
            "payment card number",
            "12 to 19 digits of a known issuer's range, bare or in the groups printed on cards, with a right Luhn "
            "digit. Test numbers such as 4242 4242 4242 4242 are findings.",
            "Other groupings, cards of 12 or 13 digits without a word such as `card` beside them, store and fuel "
            "cards, and any number with a mistyped digit. One bare 16-digit number in ten that begins like a card "
            "number has a right Luhn digit by chance.",
        ),
        "iban": Kind(
            "bank account (IBAN)",
            "Country, length, layout and check digits are right, in groups or not, in capitals or small letters.",
            "Account numbers that are no IBANs, mistyped ones, and ones in small letters whose account part has "
            "letters in it.",
        ),
        "national_id": Kind(
            "national identity or tax number",
            "Shape and check digits are right, by python-stdnum. Numbers that chance would hit too often count only "
            "with their name near them. Known are: "
            + _listed([r.detail for r in RULES if r.kind == "national_id"])
            + ".",
            "All other countries and numbers: passports, driving licences, identity cards, health insurance numbers "
            "(the German pension number, the Russian SNILS, the Singapore NRIC among them). Mistyped numbers, other "
            "ways of grouping, South Korean numbers given out since October 2020 (they have no check digit), and "
            "numbers that letters touch or that stand in a path. A part number of the same shape may be "
            "right by chance: of bare 11-digit numbers seven in a thousand are.",
        ),
        "secret": Kind(
            "key, token or password",
            "Known beginnings and lengths (" + _listed([token.detail for token in TOKENS]) + ", Telegram token), "
            "private keys in PEM or PGP armour, passwords in addresses (`scheme://user:password@host`), and values "
            "of 16 signs and more that look drawn by lot after a name such as `api_key`, `token` or `secret`. "
            "Passwords of eight signs and more with three kinds of signs after the word `password` or `Passwort`. "
            "Placeholders (`your-key`, `xxxx`, AWS's own `...EXAMPLE`) are passed over.",
            "Keys without a known beginning and without a name before them (Mistral's and Cohere's keys, keys in "
            "tables), simple passwords, passwords named in other languages, secrets split over lines or encoded "
            "again, and keys whose maker changes their form.",
        ),
    }
)

#: What is not looked for at all; an honest list for the documentation.
NOT_LOOKED_FOR = (
    "names of people and firms",
    "postal addresses and places",
    "birth dates and ages",
    "IP and MAC addresses, device and advertising ids, coordinates",
    "user names, handles and profile addresses",
    "passports, driving licences, number plates",
    "health, faith, politics and whatever else a sentence says about somebody",
    "anything in images and other files that a row refers to",
)
