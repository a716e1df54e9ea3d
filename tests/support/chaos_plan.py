"""What the jobs of a chaos run are, what goes wrong and when: all drawn from one seed before it begins."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

#: Seconds from submission to the deadline of a job that cannot make it.
DEADLINE_S: Final = 20
_OK, _CANCELLED = "succeeded", "cancelled"


class Kind(NamedTuple):
    """A kind of job: how many of a thousand, who trains it, what its trainer plays, what a user wants, how it ends."""

    per_1000: int
    provider: str
    play: str
    wish: str
    ends: tuple[str, ...]


#: A cancel races with the success: both ends are right, and the books must agree with the one that came.
KINDS: Final = {
    "real": Kind(20, "local", "real", "", (_OK,)),
    "flaky": Kind(70, "local", "flaky", "", (_OK,)),
    "later": Kind(20, "local", "later", "", (_OK,)),
    "failing": Kind(50, "local", "fail", "", ("failed E610",)),
    "always dies": Kind(10, "local", "always dies", "", ("failed E630",)),
    "late": Kind(15, "local", "hang", "deadline", ("failed E314",)),
    "held too long": Kind(10, "local", "ok", "hold, deadline", ("failed E314",)),
    "local, cancelled": Kind(60, "local", "ok", "cancel", (_CANCELLED, _OK)),
    "local, paused": Kind(60, "local", "ok", "pause", (_OK,)),
    "local, first": Kind(50, "local", "ok", "priority", (_OK,)),
    "hosted": Kind(120, "openai", "ok", "", (_OK,)),
    "hosted, bad data": Kind(20, "openai", "fail-data", "", ("failed E413",)),
    "hosted, failing": Kind(20, "openai", "fail-train", "", ("failed E401",)),
    "hosted, cancelled": Kind(40, "openai", "ok", "cancel", (_CANCELLED, _OK)),
    "hosted, paused": Kind(30, "openai", "ok", "pause", (_OK,)),
    "hosted, first": Kind(20, "openai", "ok", "priority", (_OK,)),
    # The rest.
    "local": Kind(0, "local", "ok", "", (_OK,)),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One job."""

    number: int
    kind: str
    #: When it is submitted, in seconds from the beginning; its wish comes `wish_s` later and a pause lasts `pause_s`.
    at_s: float
    wish_s: float
    pause_s: float
    #: How long its trainer takes, and how often that dies by itself.
    seconds: float
    deaths: int

    @property
    def is_(self) -> Kind:
        return KINDS[self.kind]

    def recipe(self, base: str) -> str:
        """Its recipe; the seed says which job it is. `base` is the model of the real trainings."""
        kind = self.is_
        lines = [
            "version: 1",
            f"name: bot{self.number % 7}",
            "dataset: {path: data.jsonl}",
            f"seed: {self.number}",
            "training: {epochs: 2, batch_size: 4}",
            f"provider: {kind.provider}",
        ]
        if kind.provider == "local":
            lines += [f"base_model: {base if kind.play == 'real' else 'builtin:tiny-llama'}", "lora: {r: 4, alpha: 8}"]
        else:
            suffix = f"{kind.play}-{self.number}" if "fail" in kind.play else f"bot-{self.number}"
            lines += ["base_model: gpt-4o-mini", f"provider_options: {{suffix: {suffix}}}"]
        if "deadline" in kind.wish:
            lines.append(f"limits: {{deadline: {DEADLINE_S}s}}")
        return "\n".join(lines) + "\n"


#: What goes wrong, and how often compared with the others.
FAULTS: Final = {
    "kill a gpu worker": 22,
    "kill a remote worker": 16,
    "kill a trainer": 20,
    # Longer than the leases of runs (15 s) and of steps (30 s).
    "stop a gpu worker": 7,
    "stop a gpu worker and its trainer": 5,
    "stop a remote worker": 6,
    "flush redis": 8,
    "restart redis": 6,
    "restart postgres": 5,
    "crash postgres": 5,
}
_STOPPED_S: Final = {"stop a remote worker": (31.0, 36.0), "": (16.0, 21.0)}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong: when, what, for how long, and a number that chooses the victim."""

    at_s: float
    what: str
    for_s: float
    chance: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A chaos run."""

    seed: int
    parts: tuple[Part, ...]
    faults: tuple[Fault, ...]
    #: Faults of the hosted API: the share of requests that meet one.
    hosted_rate: float = 0.04


def draw(seed: int, jobs: int, window_s: float, gap_s: float) -> Plan:
    """The plan of this seed: all submits and faults within `window_s`, a fault every `gap_s` on average.

    Each fault happens at least once, those that take longest to get over first.
    """
    rng = random.Random(seed)
    parts = tuple(_parts(rng, jobs, window_s))
    return Plan(seed=seed, parts=parts, faults=tuple(_faults(rng, window_s, gap_s)))


def _parts(rng: random.Random, jobs: int, window_s: float) -> Iterator[Part]:
    names = [
        name for name, kind in KINDS.items() for _ in range(max(1, kind.per_1000 * jobs // 1000) * (name != "local"))
    ]
    names = (names + ["local"] * jobs)[:jobs]
    rng.shuffle(names)
    for number, name in enumerate(names, start=1):
        deaths = {"flaky": rng.choice((1, 1, 2)), "always dies": 99}.get(name, 0)
        yield Part(
            number=number,
            kind=name,
            at_s=0.75 * window_s * number / jobs,
            wish_s=rng.uniform(0.0, 6.0) if KINDS[name].wish != "hold, deadline" else 0.0,
            pause_s=rng.uniform(1.0, 6.0),
            seconds=round(rng.triangular(0.05, 2.0, 0.3), 3),
            deaths=deaths,
        )


def _faults(rng: random.Random, window_s: float, gap_s: float) -> Iterator[Fault]:
    slow = ["stop a remote worker", "kill a remote worker", "stop a gpu worker", "stop a gpu worker and its trainer"]
    rest = [name for name in FAULTS if name not in slow]
    rng.shuffle(rest)
    once = slow + rest
    at_s = 2.0
    step_s = min(gap_s, (window_s - at_s) / len(once))
    while at_s < window_s:
        what = once.pop(0) if once else rng.choices(list(FAULTS), list(FAULTS.values()))[0]
        low, high = _STOPPED_S.get(what, _STOPPED_S[""]) if what.startswith("stop") else (0.5, 3.0)
        yield Fault(at_s=at_s, what=what, for_s=rng.uniform(low, high), chance=rng.random())
        at_s += step_s if once else rng.expovariate(1 / gap_s)
