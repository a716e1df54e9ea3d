"""Metrics that compare an answer's text with the wanted one, or with what the row says of it."""

import re
import string
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any, Final

from finetune.evaluation.compare import exact_match as _same
from finetune.evaluation.faults import needed
from finetune.evaluation.models import Answer
from finetune.evaluation.rows import Row

_ARTICLES: Final = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)
#: A word as rouge-score knows it, and not in ASCII only: its own pattern is [a-z0-9]+.
_WORD: Final = re.compile(r"[^\W_]+")


def exact_match(row: Row, answer: Answer) -> float:
    """1 for the wanted text, white space at the ends apart."""
    return float(answer.fault is None and _same(answer.text, row.text or ""))


def token_f1(row: Row, answer: Answer) -> float:
    """F1 of the words that both have, as in SQuAD's official script (Rajpurkar et al. 2016, evaluate-v1.1.py).

    Lower case, without punctuation and English articles. Where one of both has no words left: 1 if neither has, else 0
    (evaluate-v2.0.py).
    """
    if answer.fault is not None:
        return 0.0
    said, wanted = _words(answer.text), _words(row.text or "")
    if not said or not wanted:
        return float(said == wanted)
    same = sum((Counter(said) & Counter(wanted)).values())
    # Algebraically 2PR / (P + R), and exact.
    return 2 * same / (len(said) + len(wanted))


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def contains(row: Row, answer: Answer) -> float:
    """1 when every text of the row's `contains` (without one: the wanted text) is in the answer as it is spelt."""
    wanted = row.contains or ((row.text or "").strip(),)
    return float(answer.fault is None and all(each in answer.text for each in wanted))


def regex(row: Row, answer: Answer) -> float:
    """1 when the row's `pattern` is found anywhere in the answer; anchor it to ask for all of it."""
    return float(answer.fault is None and re.search(row.pattern or "", answer.text) is not None)


def rouge(key: str) -> Callable[[Row, Answer], float]:
    """F1 of this ROUGE (Lin 2004), by the package rouge-score, without stemming.

    Its tokenizer drops all but a-z and 0-9; ours keeps letters and digits of every script, and is the same on English.
    """

    def score(row: Row, answer: Answer) -> float:
        if answer.fault is not None:
            return 0.0
        return float(_scorer(key).score(row.text or "", answer.text)[key].fmeasure)

    return score


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return _WORD.findall(text.lower())


@cache
def _scorer(key: str) -> Any:
    def load() -> Any:
        from importlib import import_module

        return import_module("rouge_score.rouge_scorer")

    return needed(load, "ft-orchestrator[eval]").RougeScorer([key], tokenizer=_Words())
