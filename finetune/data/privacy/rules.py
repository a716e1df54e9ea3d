"""The numbers that are told by shape and check digits: payment cards and national ids, one row each.

A shape is written with 9 for a digit and A for a capital letter. What stands under `shapes` is a finding if its check
digits are right; what stands under `near` only with one of `words` beside it, because one digit in ten, or in
a hundred, would be right by chance.
"""

from typing import NamedTuple


class Rule(NamedTuple):
    """One kind of number."""

    detail: str
    #: Module of python-stdnum whose `is_valid` checks it; empty where `also` is all there is.
    check: str
    shapes: tuple[str, ...] = ()
    near: tuple[str, ...] = ()
    #: In lower case, a space for any dash or underscore; one of up to four letters has to stand alone.
    words: tuple[str, ...] = ()
    #: Regular expression for the number without its separators, beside `check`.
    also: str = ""
    #: What `check` needs the separators for is given to it as written.
    as_written: bool = False
    kind: str = "national_id"


#: Issuer ranges of ISO/IEC 7812 as the networks publish them: Visa, Mastercard, American Express, Diners Club,
#: Discover, JCB, UnionPay, Maestro, RuPay, Mir. Visa's 13 digits are out of use and would be every tenth EAN.
_ISSUERS = (
    r"4\d{15}|4\d{18}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]\d|[3-6]\d\d|7[01]\d|720)\d{12}|3[47]\d{13}"
    r"|3(?:0[0-5]|[689]\d)\d{11}|6(?:011|4[4-9]\d|5\d\d)\d{12,15}|35(?:2[89]|[3-8]\d)\d{12,15}|62\d{14,17}"
    r"|(?:5018|5020|5038|5893|6304|6759|676[1-3])\d{8,15}|(?:60|8[12])\d{14}|508\d{13}|220[0-4]\d{12,15}"
)
_NINO = r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]"

RULES = (
    Rule(
        "payment card",
        "luhn",
        shapes=(
            "9999 9999 9999 9999",
            "9999-9999-9999-9999",
            "9999 999999 99999",
            "9999-999999-99999",
            "9999 999999 9999",
            "9999-999999-9999",
            "9999 9999 9999 9999 999",
            *("9" * length for length in range(14, 20)),
        ),
        near=("9" * 12, "9" * 13),
        words=(
            "card",
            "karte",
            "carte",
            "tarjeta",
            "carta",
            "cartao",
            "cartão",
            "visa",
            "mastercard",
            "amex",
            "maestro",
            "pan",
            "credit",
            "debit",
            "карт",
            "卡",
        ),
        also=_ISSUERS,
        kind="card",
    ),
    Rule(
        "German tax id",
        "de.idnr",
        shapes=("99999999999", "99 999 999 999"),
    ),
    Rule(
        "French social security number",
        "fr.nir",
        shapes=(
            "999999999999999",
            "9 99 99 99 999 999 99",
            "9 99 99 9A 999 999 99",
            "99999999999999 9",
            "9999999999999 99",
            "999999A99999999",
        ),
        also=r"[1-478]\d\d(?:0[1-9]|1[0-2]|[2-4]\d|[5-9]\d)(?:\d\d|2[AB])\d{8}",
    ),
    Rule(
        "Spanish identity number",
        "es.dni",
        shapes=("99999999A", "99999999-A", "99999999 A", "99.999.999-A", "99.999.999A", "99.999.999 A"),
    ),
    Rule(
        "Spanish foreigner number",
        "es.nie",
        shapes=("A9999999A", "A-9999999-A", "A-9999999A", "A9999999-A", "A 9999999 A"),
    ),
    Rule(
        "Italian tax code",
        "it.codicefiscale",
        shapes=("AAAAAA99A99A999A", "AAA AAA 99A99 A999A", "AAA AAA 99A99A999A"),
    ),
    Rule(
        "Polish PESEL number",
        "pl.pesel",
        shapes=("99999999999",),
        # Born from 1900 to 2030: the number has codes for three more centuries.
        also=r"\d\d(?:0[1-9]|1[0-2])\d{7}|[012]\d(?:2[1-9]|3[0-2])\d{7}",
    ),
    Rule(
        "Dutch citizen service number",
        "nl.bsn",
        near=("999999999", "9999 99 999", "9999.99.999", "999 999 999", "999.999.999"),
        words=("bsn", "burgerservice", "sofi", "sofinummer"),
    ),
    Rule(
        "Swedish personal number",
        "se.personnummer",
        shapes=("999999-9999", "99999999-9999"),
        near=("9999999999", "999999999999", "999999 9999"),
        words=("personnummer", "personnr", "personnumber", "samordning", "personal number", "personal identity number"),
        as_written=True,
    ),
    Rule(
        "Danish personal number",
        "dk.cpr",
        near=("999999-9999", "9999999999", "999999 9999"),
        words=("cpr", "personnummer", "personal number"),
    ),
    Rule(
        "Norwegian birth number",
        "no.fodselsnummer",
        shapes=("99999999999", "999999 99999"),
    ),
    Rule(
        "Finnish identity code",
        "fi.hetu",
        shapes=("999999-9999", "999999-999A", "999999A999A", "999999A9999"),
        as_written=True,
    ),
    Rule(
        "Icelandic identity number",
        "is_.kennitala",
        near=("999999-9999", "9999999999", "999999 9999"),
        words=("kennital", "kt"),
    ),
    Rule(
        "Belgian national number",
        "be.nn",
        shapes=("99.99.99-999.99", "99.99.99 999.99", "99.99.99-999-99"),
        near=("99999999999", "999999-999-99", "99 99 99 999 99"),
        words=(
            "rijksregister",
            "registre national",
            "national number",
            "national register number",
            "nrn",
            "niss",
            "insz",
            "nn",
        ),
    ),
    Rule("Swiss AHV number", "ch.ssn", shapes=("999.9999.9999.99", "9999999999999", "999 9999 9999 99")),
    Rule(
        "Austrian social insurance number",
        "at.vnr",
        near=("9999999999", "9999 999999", "9999-999999", "999 9 999999"),
        words=("sozialversicherung", "svnr", "sv nr", "sv nummer", "vsnr", "versicherungsnummer"),
    ),
    Rule(
        "British National Insurance number",
        "",
        shapes=("AA 99 99 99 A", "AA 999999 A", "AA-99-99-99-A"),
        near=("AA999999A", "AA999999 A"),
        words=("national insurance", "ni", "nino"),
        also=_NINO,
    ),
    Rule(
        "British NHS number",
        "gb.nhs",
        near=("9999999999", "999 999 9999", "999-999-9999"),
        words=("nhs", "patient"),
    ),
    Rule(
        "Irish PPS number",
        "ie.pps",
        near=("9999999A", "9999999AA", "9999999 A"),
        words=("pps", "ppsn", "public service number"),
    ),
    Rule(
        "Portuguese tax number",
        "pt.nif",
        near=("999999999", "999 999 999"),
        words=("nif", "contribuinte"),
    ),
    Rule("Portuguese citizen card", "pt.cc", shapes=("99999999 9 AA9", "999999999AA9")),
    Rule(
        "Czech or Slovak birth number",
        "cz.rc",
        shapes=("999999/9999",),
        near=("9999999999",),
        words=("rodné", "rodne", "rodnej"),
    ),
    Rule(
        "Croatian personal number",
        "hr.oib",
        near=("99999999999",),
        words=("oib",),
    ),
    Rule(
        "Slovenian personal number",
        "si.emso",
        near=("9999999999999",),
        words=("emšo", "emso", "jmbg", "matičn", "maticn"),
    ),
    Rule("Romanian personal number", "ro.cnp", near=("9999999999999",), words=("cnp", "numeric personal")),
    Rule("Bulgarian civil number", "bg.egn", near=("9999999999",), words=("egn", "егн")),
    Rule("Greek social security number", "gr.amka", near=("99999999999",), words=("amka", "αμκα")),
    Rule(
        "Estonian personal code",
        "ee.ik",
        near=("99999999999",),
        words=("isikukood", "personal code", "personal id code"),
    ),
    Rule(
        "Lithuanian personal code",
        "lt.asmens",
        near=("99999999999",),
        words=("asmens", "personal code", "personal id code"),
    ),
    Rule("Russian tax number", "ru.inn", near=("999999999999",), words=("inn", "инн")),
    Rule("Ukrainian tax number", "ua.rntrc", near=("9999999999",), words=("рнокпп", "rntrc", "rnokpp", "іпн", "инн")),
    Rule(
        "Turkish identity number",
        "tr.tckimlik",
        near=("99999999999",),
        words=("kimlik", "tckn", "t.c.", "tc no"),
    ),
    Rule(
        "US social security number",
        "us.ssn",
        shapes=("999-99-9999",),
        near=("999999999", "999 99 9999"),
        words=("ssn", "ssns", "social security", "socialsecurity"),
    ),
    Rule(
        "US taxpayer number",
        "us.itin",
        shapes=("999-99-9999",),
        near=("999999999",),
        words=("itin",),
    ),
    Rule(
        "Canadian social insurance number",
        "ca.sin",
        near=("999 999 999", "999-999-999", "999999999"),
        words=("sin", "nas", "social insurance", "assurance sociale"),
    ),
    Rule(
        "Mexican CURP",
        "mx.curp",
        shapes=("AAAA999999AAAAAA99", "AAAA999999AAAAAAA9"),
    ),
    Rule(
        "Brazilian CPF",
        "br.cpf",
        shapes=("999.999.999-99",),
        near=("99999999999", "999999999-99", "999 999 999 99", "999.999.999.99"),
        words=("cpf",),
    ),
    Rule(
        "Brazilian CNPJ",
        "br.cnpj",
        shapes=("99.999.999/9999-99",),
        near=("99999999999999",),
        words=("cnpj",),
    ),
    Rule(
        "Argentine CUIT or CUIL",
        "ar.cuit",
        shapes=("99-99999999-9",),
        near=("99999999999",),
        words=("cuit", "cuil"),
    ),
    Rule(
        "Chilean RUT",
        "cl.rut",
        shapes=("99.999.999-9", "9.999.999-9", "99.999.999-A", "9.999.999-A"),
        near=("99999999-9", "99999999-A", "9999999-9", "9999999-A"),
        words=("rut", "run"),
    ),
    Rule(
        "Indian Aadhaar number",
        "in_.aadhaar",
        shapes=("9999 9999 9999", "9999-9999-9999"),
        near=("999999999999",),
        words=("aadhaar", "aadhar", "adhaar", "uidai", "आधार"),
        # Three years in a row have the shape too.
        also=r"(?!(?:(?:19|20)\d\d){3})\d{12}",
    ),
    Rule("Indian PAN", "in_.pan", shapes=("AAAAA9999A",)),
    Rule("Chinese resident id", "cn.ric", shapes=("9" * 18, "9" * 17 + "A")),
    Rule("South Korean resident number", "kr.rrn", shapes=("999999-9999999",)),
    Rule(
        "Japanese My Number",
        "jp.in_",
        near=("999999999999", "9999 9999 9999", "9999-9999-9999"),
        words=("my number", "mynumber", "マイナンバー", "個人番号"),
    ),
    Rule(
        "Thai identity number",
        "th.pin",
        shapes=("9-9999-99999-99-9",),
        near=("9999999999999",),
        words=("thai", "ประชาชน"),
    ),
    Rule("Malaysian identity number", "my.nric", shapes=("999999-99-9999",)),
    Rule(
        "South African identity number",
        "za.idnr",
        near=("9999999999999", "999999 9999 999", "999999 9999 99 9"),
        words=(
            "id no",
            "id num",
            "id nr",
            "id number",
            "id card",
            "id:",
            "idnumber",
            "identity no",
            "identity number",
            "sa id",
            "rsa id",
        ),
    ),
    Rule(
        "Israeli identity number",
        "il.idnr",
        near=("999999999", "99999999-9"),
        words=("teudat", "תעודת", "israeli id"),
    ),
    Rule(
        "Australian tax file number",
        "au.tfn",
        near=("999 999 999", "999999999", "999-999-999"),
        words=("tfn", "tax file"),
    ),
)
