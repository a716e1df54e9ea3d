"""Whose turn it is: priorities, fair shares, first come first served, caps."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from finetune.turns import Load, in_turn

START = datetime(2027, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    id: str
    owner: str
    provider: str
    base_model: str
    priority: int
    created_at: datetime


def place(number: int, owner: str = "a", *, priority: int = 0, target: str = "openai/m") -> Place:
    provider, base_model = target.split("/")
    return Place(f"ft_{number}", owner, provider, base_model, priority, START + timedelta(seconds=number))


def order(places, caps=None, load=None):
    return [each.id for each in in_turn(places, load or Load(caps or {}))]


def test_one_owners_jobs_go_in_the_order_they_came():
    assert order([place(2), place(0), place(1)]) == ["ft_0", "ft_1", "ft_2"]


def test_a_higher_priority_goes_before_all_others():
    assert order([place(0), place(1, priority=-1), place(2, priority=7)]) == ["ft_2", "ft_0", "ft_1"]


def test_owners_take_turns_however_many_one_has_submitted():
    places = [place(0), place(1), place(2), place(3, "b"), place(4, "c")]
    assert order(places) == ["ft_0", "ft_3", "ft_4", "ft_1", "ft_2"]


def test_who_has_fewest_under_way_is_next():
    load = Load({})
    load.add("a", "openai", "m", 2)
    load.add("b", "openai", "m")
    assert order([place(0), place(1, "b"), place(2, "c"), place(3, "c")], load=load) == ["ft_2", "ft_1", "ft_3", "ft_0"]


def test_a_cap_on_owners_holds_for_each():
    assert order([place(0), place(1), place(2, "b"), place(3, "b")], {"owner": 1}) == ["ft_0", "ft_2"]


def test_a_full_target_holds_up_nobody_who_wants_another():
    places = [place(0), place(1), place(2, target="openai/n"), place(3, target="local/m")]
    assert order(places, {"openai/m": 1}) == ["ft_0", "ft_2", "ft_3"]
    assert order(places, {"openai": 1}) == ["ft_0", "ft_3"]
    assert order(places, {"openai": 0}) == ["ft_3"]


def test_an_obstacle_says_which_cap_and_how_full():
    load = Load({"owner": 3, "openai": 2, "openai/m": 1})
    assert load.obstacle(place(0)) is None
    load.add("a", "openai", "m")
    assert load.obstacle(place(0)) == "openai/m has 1 of 1 under way"
    load.add("b", "openai", "n")
    assert load.obstacle(place(0, target="openai/n")) == "openai has 2 of 2 under way"
    load.add("a", "local", "m", 2)
    assert load.obstacle(place(0)) == "a has 3 of 3 under way"


places_of = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(-2, 2), st.sampled_from(["openai/m", "openai/n", "local/m"])),
    max_size=30,
)
caps_of = st.dictionaries(st.sampled_from(["owner", "openai", "openai/m", "local"]), st.integers(0, 6))


@given(places_of, caps_of)
def test_no_cap_is_exceeded_and_nobody_waits_without_a_reason(rows, caps):
    places = [place(n, owner, priority=priority, target=target) for n, (owner, priority, target) in enumerate(rows)]
    load = Load(caps)
    chosen = in_turn(places, load)
    counts = Counter()
    for each in chosen:
        counts.update([("owner", each.owner), each.provider, f"{each.provider}/{each.base_model}"])
    for key, count in counts.items():
        assert count <= caps.get("owner" if isinstance(key, tuple) else key, len(rows))
    for each in places:
        assert (each in chosen) is not (load.obstacle(each) is not None and each not in chosen)
    assert [each.priority for each in chosen] == sorted((each.priority for each in chosen), reverse=True)
    for owner in "abc":
        for priority in range(-2, 3):
            mine = [each.created_at for each in chosen if (each.owner, each.priority) == (owner, priority)]
            assert mine == sorted(mine)
