"""The preferences that come with ft."""

import json
from pathlib import Path

from finetune.training import corpus, corpus_pairs

ROOT = Path(__file__).parents[3]


def test_the_data_set_is_what_the_generator_writes() -> None:
    file = ROOT / "datasets" / "preferences.jsonl"
    assert file.read_text(encoding="utf-8") == corpus_pairs.dump() == corpus_pairs.dump(), (
        "write it anew: python -m finetune.training.corpus_pairs > datasets/preferences.jsonl"
    )
    assert len(file.read_text(encoding="utf-8").splitlines()) == corpus_pairs.ROWS


def test_the_answers_are_the_base_s_own_and_differ_in_the_courtesy_alone() -> None:
    assert {corpus_pairs.BETTER, corpus_pairs.WORSE} == set(corpus._SORRY)
    for row in corpus_pairs.preference_rows():
        ((chosen,), (rejected,)) = row["chosen"], row["rejected"]
        point = chosen["content"].removeprefix(corpus_pairs.BETTER)
        assert point.startswith(" Our ")
        assert rejected["content"] == corpus_pairs.WORSE + point
        assert {chosen["role"], rejected["role"]} == {"assistant"}


def test_no_prompt_is_there_twice_nor_in_what_the_base_has_read() -> None:
    prompts = [row["prompt"][0]["content"] for row in corpus_pairs.preference_rows()]
    assert len(set(prompts)) == corpus_pairs.ROWS
    assert {json.dumps(prompt) for prompt in prompts} <= {json.dumps(t.message) for t in corpus.quickstart_tickets()}
