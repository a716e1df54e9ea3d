"""What is found: kind, detail and the exact span, in all the places and writings it comes in."""

import pytest

from finetune.data.privacy import KINDS, find
from finetune.data.privacy.tokens import TOKENS, Token
from tests.unit.data.privacy.fakes import FAKES, HEX, drawn, key, token, wide

#: Text with the finding between « and », its kind, and its detail where the kind has several.
HITS = [
    # E-mail addresses
    ("«anna.mueller@firma.de»", "email", ""),
    ("Write to «o'brien+news@mail.firm.co.uk», please.", "email", ""),
    ("<«anna@firma.de»>", "email", ""),
    ("mailto:«anna@firma.de»?subject=x", "email", ""),
    ('{"to":"«anna@firma.de»"}', "email", ""),
    ("line\\n«anna@firma.de»\\nline", "email", ""),
    ("\\u00e4«anna@firma.de»", "email", ""),
    ("Mail: «jörg@müller.de».", "email", ""),
    ("почта «иван@почта.рф»", "email", ""),
    ("邮箱是«anna@firma.de»请联系", "email", ""),
    ("«anna\uff20firma.de»", "email", ""),
    ("«a@b.de» and «c@d.de»,«e@f.de»", "email", ""),
    ("a=«x_y-z%1@sub-domain.firma.museum»&b", "email", ""),
    ("«user@example.com.br»", "email", ""),
    ("«ada@163.com»", "email", ""),
    # Telephone numbers
    ("Ring «+49 30 901820» now", "phone", ""),
    ("«+49 (0)30 901820»", "phone", ""),
    ("«+1 (415) 726-2671»", "phone", ""),
    ("«(+49) 30 901820»", "phone", ""),
    ("(«+49 30 901820»)", "phone", ""),
    ("电话«+8613812345678»。", "phone", ""),
    ("«+44 20 7031 3000», «+33 1 42 68 53 00»", "phone", ""),
    ("«0049 30 901820»", "phone", ""),
    ("«030 901820»", "phone", ""),
    ("«030/901820»", "phone", ""),
    ("«0171-1234567»", "phone", ""),
    ("«(030) 90 18 20»", "phone", ""),
    ("«01 42 68 53 00»", "phone", ""),
    ("«01.42.68.53.00»", "phone", ""),
    ("«020 7031 3000»", "phone", ""),
    ("«(415) 726-2671»", "phone", ""),
    ("«415-726-2671»", "phone", ""),
    ("«1-415-726-2671»", "phone", ""),
    ("«415.726.2671»", "phone", ""),
    ("«(11) 91234-5678»", "phone", ""),
    ("Tel. «03090182012»", "phone", ""),
    ('{"phone_number": "«4155552671»"}', "phone", ""),
    ("call me at «415 726 2671»", "phone", ""),
    ("Handynummer: «01711234567»", "phone", ""),
    ("«0171 1234567» / «030 901820»", "phone", ""),
    ("手机\uff1a«13812345678»", "phone", ""),
    ("+\u00a0no, «+49\u00a030\u00a0901820»", "phone", ""),
    ("هاتف «+٤٩ ٣٠ ٩٠١٨٢٠»", "phone", ""),
    ("a\\t«(415) 726-2671»\\r«030 901820»\\f", "phone", ""),
    # Payment cards
    ("«4242424242424242»", "card", ""),
    ("«4242 4242 4242 4242» 12/26 123", "card", ""),
    ("«5555-5555-5555-4444»", "card", ""),
    ("«3782 822463 10005»", "card", ""),
    ("«378282246310005»", "card", ""),
    ("«3056 930902 5904»", "card", ""),
    ("«6011111111111117»,", "card", ""),
    (f"«{wide('2223003122003222')}»", "card", ""),
    ("«4242\u20114242\u20114242\u20114242»", "card", ""),
    ("2026 «4242 4242 4242 4242»", "card", ""),
    ("no.«4242424242424242».", "card", ""),
    ("card «6759649826430»", "card", ""),
    # Bank accounts
    ("«DE89 3704 0044 0532 0130 00» BIC", "iban", ""),
    ("IBAN:«DE89370400440532013000»", "iban", ""),
    ("«de89370400440532013000»", "iban", ""),
    ("«GB29 NWBK 6016 1331 9268 19».", "iban", ""),
    ("«NL91ABNA0417164300»/x", "iban", ""),
    ("«FR14 2004 1010 0505 0001 3M02 606»", "iban", ""),
    ("«BE68-5390-0754-7034»", "iban", ""),
    ("«MT84MALT011000012345MTLCAST001S»", "iban", ""),
    # National ids that stand by themselves
    ("Steuer-ID «36 574 261 809»", "national_id", "German tax id"),
    ("«36574261809»", "national_id", "German tax id"),
    ("«2 95 10 99 126 111 93»", "national_id", "French social security number"),
    ("«295109912611193»", "national_id", "French social security number"),
    ("DNI «54362315K»", "national_id", "Spanish identity number"),
    ("dni «54362315k»", "national_id", "Spanish identity number"),
    ("«54.362.315-K»", "national_id", "Spanish identity number"),
    ("«X-2482300-W»", "national_id", "Spanish foreigner number"),
    ("«RCCMNL83S18D969H»", "national_id", "Italian tax code"),
    ("«44051401359»", "national_id", "Polish PESEL number"),
    ("«880320-0016»", "national_id", "Swedish personal number"),
    ("«151086 95088»", "national_id", "Norwegian birth number"),
    ("«131052-308T»", "national_id", "Finnish identity code"),
    ("«85.07.30-033.28»", "national_id", "Belgian national number"),
    ("«756.9217.0769.85»", "national_id", "Swiss AHV number"),
    ("«JG 10 37 59 A»", "national_id", "British National Insurance number"),
    ("«710319/2745»", "national_id", "Czech or Slovak birth number"),
    ("SSN is «536-90-4399»", "national_id", "US social security number"),
    ("«912-90-3456»", "national_id", "US taxpayer number"),
    ("«BOXW310820HNERXN09»", "national_id", "Mexican CURP"),
    ("«390.533.447-05»", "national_id", "Brazilian CPF"),
    ("«16.727.230/0001-97»", "national_id", "Brazilian CNPJ"),
    ("«20-05536168-2»", "national_id", "Argentine CUIT or CUIL"),
    ("«12.531.909-2»", "national_id", "Chilean RUT"),
    ("«2341 2341 2346»", "national_id", "Indian Aadhaar number"),
    ("«ACUPA7085R»", "national_id", "Indian PAN"),
    ("«11010519491231002X»", "national_id", "Chinese resident id"),
    ("«971013-9019902»", "national_id", "South Korean resident number"),
    ("«1-2345-45678-78-1»", "national_id", "Thai identity number"),
    ("«770305-02-1234»", "national_id", "Malaysian identity number"),
    ("«00000000 0 ZZ4»", "national_id", "Portuguese citizen card"),
    # National ids with their name near them
    ("BSN: «111222333»", "national_id", "Dutch citizen service number"),
    ("bsn «1112.22.333»", "national_id", "Dutch citizen service number"),
    ("CPR-nr. «211062-5629»", "national_id", "Danish personal number"),
    ("kennitala «450401-3150»", "national_id", "Icelandic identity number"),
    ("Sozialversicherungsnummer «1237 010180»", "national_id", "Austrian social insurance number"),
    ("«JG103759A» (National Insurance)", "national_id", "British National Insurance number"),
    ("NHS number «943 476 5919»", "national_id", "British NHS number"),
    ("PPS «6433435F»", "national_id", "Irish PPS number"),
    ("NIF: «501964843»", "national_id", "Portuguese tax number"),
    ("OIB «33392005961»", "national_id", "Croatian personal number"),
    ("EMŠO «0101006500006»", "national_id", "Slovenian personal number"),
    ("CNP «1630615123457»", "national_id", "Romanian personal number"),
    ("ЕГН «7523169263»", "national_id", "Bulgarian civil number"),
    ("\u0391\u039c\u039a\u0391 «01013099997»", "national_id", "Greek social security number"),
    ("isikukood «36805280109»", "national_id", "Estonian personal code"),
    ("asmens kodas «33309240064»", "national_id", "Lithuanian personal code"),
    ("ИНН «500100732259»", "national_id", "Russian tax number"),
    ("РНОКПП «1759013776»", "national_id", "Ukrainian tax number"),
    ("T.C. Kimlik No «17291716060»", "national_id", "Turkish identity number"),
    ('{"social_security":"«536904399»"}', "national_id", "US social security number"),
    ("SIN «123 456 782»", "national_id", "Canadian social insurance number"),
    ("CPF «39053344705»", "national_id", "Brazilian CPF"),
    ("マイナンバー «6214 9832 0257»", "national_id", "Japanese My Number"),
    ("RSA ID «7503305044089»", "national_id", "South African identity number"),
    ("Teudat Zehut «039337423»", "national_id", "Israeli identity number"),
    ("TFN «123 456 782»", "national_id", "Australian tax file number"),
    # Secrets beyond the table of tokens
    (f"«{key()}» and so on", "secret", "private key"),
    (f"«{key(end=chr(92) + 'n')}»", "secret", "private key"),
    (f"«{key(closed=False)}»\n\nThen he said nothing.", "secret", "private key"),
    ("postgres://app:«h3llo-w0rld»@db.firma.de/x", "secret", "password in an address"),
    ("password: «Sommer2024!»", "secret", "password"),
    ('{"password":"«Sommer2024!»"}', "secret", "password"),
    ("Das Passwort lautet «geHeim_77».", "secret", "password"),
    (f'api_key = "«{drawn(20)}»"', "secret", "key or token by its name"),
    (f"export MISTRAL_API_KEY=«{drawn(32)}»", "secret", "key or token by its name"),
    (f'{{\\"client_secret\\": \\"«{drawn(40)}»\\"}}', "secret", "key or token by its name"),
    (f"aws_secret_access_key=«{drawn(18)}/+{drawn(20)}»", "secret", "key or token by its name"),
    (f"Authorization: Bearer «{drawn(24)}»", "secret", "key or token by its name"),
    (f"--api-key «{HEX}»", "secret", "key or token by its name"),
    (f"https://api.telegram.org/bot1:x «123456789:{drawn(35)}»", "secret", "Telegram token"),
    (f"\\n«{token('gh', 'p_', 36)}»\\n", "secret", "GitHub token"),
    (f"https://x:«{token('gh', 'p_', 36)}»@github.com", "secret", "GitHub token"),
]


def marked(text: str) -> tuple[str, list[str]]:
    """The text without its marks, and what stood between them."""
    values = [part.split("»")[0] for part in text.split("«")[1:]]
    return text.replace("«", "").replace("»", ""), values


@pytest.mark.parametrize(("marks", "kind", "detail"), HITS)
def test_it_is_found_and_nothing_else(marks: str, kind: str, detail: str) -> None:
    text, values = marked(marks)

    found = find(text)

    assert [text[each.start : each.end] for each in found] == values
    assert {each.kind for each in found} == {kind}
    assert kind in KINDS
    assert not detail or {each.detail for each in found} == {detail}


@pytest.mark.parametrize("row", TOKENS, ids=lambda row: row.detail)
@pytest.mark.parametrize("around", ["{}", "key: {}.", '{{"k":"{}"}}', "a\\n{}\\nb", "X_{} ", "\uff08{}\uff09"])
def test_each_kind_of_token_is_found(row: Token, around: str) -> None:
    fake = token(*FAKES[row.detail])
    text = around.format(fake)

    (found,) = find(text)

    assert (found.kind, found.detail) == ("secret", row.detail)
    assert text[found.start : found.end].rstrip(".") == fake


def test_several_kinds_in_one_text() -> None:
    text = (
        "Anna, anna@firma.de, +49 30 901820, IBAN DE89 3704 0044 0532 0130 00, card 4242 4242 4242 4242, id 36574261809"
    )

    assert [each.kind for each in find(text)] == ["email", "phone", "iban", "card", "national_id"]


def test_the_name_near_a_number_says_what_it_is() -> None:
    assert [each.detail for each in find("CPF 39053344705")] == ["Brazilian CPF"]
    assert find("order 39053344705") == []


def test_regions_say_whose_numbers_are_known() -> None:
    text = "09-310 4000 or 030 901820"

    assert [text[each.start : each.end] for each in find(text)] == ["030 901820"]
    assert [text[each.start : each.end] for each in find(text, regions=["NZ", "FI"])] == ["09-310 4000"]


@pytest.mark.parametrize("name", ["XX", "", "Germany"])
def test_an_unknown_region_is_a_fault_of_the_caller(name: str) -> None:
    with pytest.raises(ValueError, match="ISO 3166"):
        find("", regions=[name])


def test_small_and_large_letters_of_a_region_are_the_same() -> None:
    assert find("030 901820", regions=["de"]) == find("030 901820", regions=["DE"]) != []


def test_the_detail_never_holds_the_value() -> None:
    for marks, _, _ in HITS:
        text, values = marked(marks)
        for each in find(text):
            assert not any(value in each.detail for value in values)
