"""What proves that a version answers: golden answers, the base at the gateway, how many may be wrong."""

from datetime import UTC, datetime

import pytest

from finetune.deployments import Deployment
from finetune.errors import NotProved
from finetune.proof import PLAIN_QUESTIONS, prove, questions
from finetune.testing import FakeServer

NOW = datetime(2027, 1, 1, tzinfo=UTC)
BOT = Deployment(ref="bot@v1", public="bot", digest="a" * 64, base_model="tiny")


def golden(number, **more):
    messages = [{"role": "user", "content": f"q{number}"}]
    return {"messages": messages, "max_tokens": 8, "tuned": f"TICKET {number}", "other": f"a story of {number}", **more}


def reports(count, **more):
    return [{"suite": "held-out", "golden": [golden(number) for number in range(count)], **more}]


class Server(FakeServer):
    """Answers each question as `says` has it, else as the tuned model does."""

    def __init__(self, said):
        super().__init__("vllm")
        self.register(BOT)
        self.said, self.asked = said, []

    def probe(self, deployment, messages, *, max_tokens):
        question = messages[-1]["content"]
        self.asked.append(question)
        self.says[self.entry(deployment)] = self.said.get(question, f"TICKET {question[1:]}")
        return super().probe(deployment, messages, max_tokens=max_tokens)


def wrong(count):
    return {f"q{number}": f"a story of {number}" for number in range(count)}


@pytest.mark.parametrize(("count", "proved"), [(0, True), (2, True), (3, False), (4, False)])
def test_half_of_the_golden_answers_may_be_lost_to_another_engine(count, proved):
    server = Server(wrong(count))
    if proved:
        evidence = prove(server, BOT, questions(reports(4)), NOW)
        assert (evidence.against, len(evidence.answers)) == ("golden answers", 4)
    else:
        with pytest.raises(NotProved, match="E831"):
            prove(server, BOT, questions(reports(4)), NOW)


def test_four_questions_are_enough():
    server = Server({})
    prove(server, BOT, questions(reports(8)), NOW)
    assert server.asked == ["q0", "q1", "q2", "q3"]


def test_what_the_base_says_is_no_proof_however_like_the_golden_answer_it_is():
    """Blanks around the base's own words make it no more the version's."""
    near = [{"suite": "s", "golden": [golden(0, tuned="yes, and more", other="yes, and more.")]}]
    with pytest.raises(NotProved, match="E831"):
        prove(Server({"q0": " yes, and more.\n"}), BOT, questions(near), NOW)
    prove(Server({"q0": " yes, and more\n"}), BOT, questions(near), NOW)


def test_where_the_bases_answer_is_not_known_it_is_asked_for():
    unknown = [{"suite": "s", "golden": [{key: value for key, value in golden(0).items() if key != "other"}]}]
    server = Server({"q0": "I am tiny"})
    with pytest.raises(NotProved, match="E831"):
        prove(server, BOT, questions(unknown), NOW)
    assert prove(Server({}), BOT, questions(unknown), NOW).answers[0]["base"] == "I am tiny"


def test_another_versions_answers_say_nothing_of_the_base():
    asked = questions(reports(4, over="production"))
    assert [each.messages[0]["content"] for each in asked] == list(PLAIN_QUESTIONS)
    assert questions([*reports(4, over="production"), *reports(1)])[0].base == "a story of 0"
    assert len(questions([*reports(4, over="production"), *reports(1)])) == 1


class Baseless(Server):
    """It does not answer as the base."""

    probe_base = None


def test_where_nothing_answers_as_the_base_a_version_is_told_from_the_one_it_was_measured_over():
    over = reports(4, over="production")
    asked = questions(over, based=False)
    assert (asked[0].tuned, asked[0].base, asked[0].siblings) == ("TICKET 0", None, ("a story of 0",))
    evidence = prove(Baseless({}), BOT, asked, NOW)
    assert evidence.against == "golden answers and another version's"
    assert {each["base"] for each in evidence.answers} == {None}
    with pytest.raises(NotProved, match="E831"):
        prove(Baseless(wrong(3)), BOT, asked, NOW)
    assert questions([*over, *reports(1)], based=False)[0].base == "a story of 0", "its base's answers come first"
    assert questions([], based=False)[0].messages[0]["content"] == PLAIN_QUESTIONS[0]
    with pytest.raises(NotProved, match="E832"):
        prove(Baseless({}), BOT, questions([], based=False), NOW)


def test_one_plain_question_that_is_answered_otherwise_is_enough():
    said = dict.fromkeys(PLAIN_QUESTIONS, "I am tiny")
    with pytest.raises(NotProved, match="E831"):
        prove(Server(said), BOT, questions([]), NOW)
    said[PLAIN_QUESTIONS[1]] = "TICKET"
    assert prove(Server(said), BOT, questions([]), NOW).against == "the base at the gateway"


def test_another_versions_words_are_no_proof():
    """The gateway says that the right one answered, and the words are nearer to the right ones than the base's are."""
    other = [{"suite": "held-out", "golden": [golden(number, tuned=f"TICKET {number}, closed") for number in range(4)]}]
    server = Server({f"q{number}": f"TICKET {number}, closed" for number in range(4)})
    prove(server, BOT, questions(reports(4)), NOW)
    with pytest.raises(NotProved, match="E831"):
        prove(server, BOT, questions(reports(4), [other]), NOW)
    # What both answer alike tells nothing, and stands in nobody's way.
    prove(Server({}), BOT, questions(reports(4), [reports(4)]), NOW)


def test_what_tells_it_from_another_version_is_asked_first():
    other = [{"suite": "held-out", "golden": [golden(number, tuned="something else") for number in (5, 7)]}]
    server = Server({})
    prove(server, BOT, questions(reports(8), [other]), NOW)
    assert server.asked == ["q5", "q7", "q0", "q1"]
