"""What stands in the place of a finding, and what stands there the second time."""

import pytest

from finetune.data.privacy import KINDS, Finding, Numbered, Style, find, redact, unnumbered
from finetune.data.privacy.redaction import PLACEHOLDER
from tests.unit.data.privacy.fakes import token, wide
from tests.unit.data.privacy.test_hits import HITS, marked


def test_equal_values_have_equal_placeholders() -> None:
    text = "a@b.de, c@d.de, A@B.DE, +49 30 901820, +4930901820"

    assert redact(text, find(text), Numbered()) == "[EMAIL_1], [EMAIL_2], [EMAIL_1], [PHONE_1], [PHONE_1]"


def test_one_style_serves_all_texts_of_a_row() -> None:
    texts = ["I am a@b.de", "You are c@d.de, he is a@b.de", "DE89370400440532013000 or DE89 3704 0044 0532 0130 00"]
    style = Numbered(texts)

    assert [redact(text, find(text), style) for text in texts] == [
        "I am [EMAIL_1]",
        "You are [EMAIL_2], he is [EMAIL_1]",
        "[IBAN_1] or [IBAN_1]",
    ]


def test_secrets_that_differ_in_case_are_two() -> None:
    small = token("gh", "p_", 36)
    text = f"{small} {small[:4]}{small[4:].swapcase()} {small}"

    assert redact(text, find(text), Numbered()) == "[SECRET_1] [SECRET_2] [SECRET_1]"


def test_numbers_that_are_there_already_are_not_given_again() -> None:
    texts = ["a@b.de", "[EMAIL_3] [EMAIL] [PHONE_2]", "+49 30 901820"]
    style = Numbered(texts)

    assert [redact(text, find(text), style) for text in texts] == ["[EMAIL_4]", texts[1], "[PHONE_3]"]


def test_without_numbers() -> None:
    text = "a@b.de, c@d.de"

    assert redact(text, find(text), unnumbered) == "[EMAIL], [EMAIL]"


def test_wide_digits_are_the_same_number() -> None:
    text = f"4242424242424242 {wide('4242424242424242')}"

    assert redact(text, find(text), Numbered()) == "[CARD_1] [CARD_1]"


def test_every_kind_has_a_placeholder_that_find_knows() -> None:
    for kind in KINDS:
        assert PLACEHOLDER.fullmatch(unnumbered(kind, "x"))
        assert PLACEHOLDER.fullmatch(Numbered()(kind, "x"))


def test_a_text_without_findings_stays() -> None:
    assert redact("nothing here", [], Numbered()) == "nothing here"


@pytest.mark.parametrize("style", [unnumbered, Numbered()])
@pytest.mark.parametrize("marks", [marks for marks, _, _ in HITS])
def test_what_is_left_has_no_findings(marks: str, style: Style) -> None:
    text, values = marked(marks)

    once = redact(text, find(text), style)

    assert find(once) == []
    assert not any(value in once for value in values)


def test_json_escapes_stay_whole() -> None:
    text = r"{\"note\": \"mail\nanna@firma.de\tok\"}"

    assert redact(text, find(text), unnumbered) == r"{\"note\": \"mail\n[EMAIL]\tok\"}"


@pytest.mark.parametrize(
    "findings",
    [
        [Finding("email", "", 0, 99)],
        [Finding("email", "", -1, 2)],
        [Finding("email", "", 0, 4), Finding("email", "", 3, 6)],
        [Finding("email", "", 4, 2)],
    ],
)
def test_findings_of_another_text_are_refused(findings: list[Finding]) -> None:
    with pytest.raises(ValueError, match="not those of this text"):
        redact("a text", findings, unnumbered)


def test_the_order_of_the_findings_does_not_matter() -> None:
    text = "a@b.de, +49 30 901820"

    assert redact(text, find(text)[::-1], unnumbered) == "[EMAIL], [PHONE]"


def test_what_a_finding_uncovers_is_found_too() -> None:
    # The second number is tied to the first by a dash, and stands alone once that is gone.
    text = "a@b.de-4242424242424242"

    assert redact(text, find(text), unnumbered) == "[EMAIL]-[CARD]"
