"""Answers of the embedded server beside those of transformers and PEFT in this process; see `promotion`."""

import os
import signal
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import openai

from finetune.files import digest
from finetune.jobs import Event, Job, JobState
from finetune.store import Database, SqlJobs, SqlModels
from tests.bench.parallel import base
from tests.support.process import FT, Child, wait_until
from tests.support.servers import HOST, free_port

ADAPTERS = 8
TOKENS = 32
#: Hidden size, layers of the random Llama.
SIZES = {"small": (128, 4), "larger": (384, 8)}
QUESTIONS = [f"Question {number}: what do you say to this?" for number in range(ADAPTERS)]


class Plain:
    """The base and its adapters in this process, asked by `generate`."""

    def __init__(self, folder: Path, hidden: int, layers: int) -> None:
        """Makes them; an adapter's weights are random, and so large that it says what its base does not."""
        import torch
        from peft import LoraConfig, PeftModel, get_peft_model
        from transformers import AutoModelForCausalLM, AutoTokenizer

        # PEFT 0.21 asks transformers 5 by an old name.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        self.base = base(folder / "base", hidden, layers)
        self.adapters = [folder / f"adapter-{number}" for number in range(ADAPTERS)]
        self._tokenizer = AutoTokenizer.from_pretrained(self.base, padding_side="left")
        for number, place in enumerate(self.adapters):
            torch.manual_seed(number)
            made: Any = AutoModelForCausalLM.from_pretrained(self.base)
            config = LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
            get_peft_model(made, config).save_pretrained(str(place))
        plain: Any = AutoModelForCausalLM.from_pretrained(self.base)
        self._model: Any = PeftModel.from_pretrained(plain, str(self.adapters[0]), adapter_name="a0")
        for number, place in enumerate(self.adapters[1:], 1):
            self._model.load_adapter(str(place), f"a{number}")
        self._model.eval()

    def one(self, number: int) -> str:
        """What this adapter says to its question."""
        self._model.set_adapter(f"a{number}")
        return self._said([number])[0]

    def mixed(self) -> list[str]:
        """What all say to theirs, in one batch."""
        numbers = range(ADAPTERS)
        return self._said(numbers, adapter_names=[f"a{number}" for number in numbers])

    def _said(self, numbers: Sequence[int], **more: Any) -> list[str]:
        import torch

        chats = [[{"role": "user", "content": QUESTIONS[number]}] for number in numbers]
        options = {"tokenize": True, "add_generation_prompt": True, "return_tensors": "pt", "return_dict": True}
        asked = self._tokenizer.apply_chat_template(chats, padding=True, **options)
        width = asked["input_ids"].shape[1]
        with torch.inference_mode():
            made = self._model.generate(
                **asked, max_new_tokens=TOKENS, do_sample=False, pad_token_id=self._tokenizer.pad_token_id, **more
            )
        assert made.shape[1] == width + TOKENS, "an answer has ended early"
        said: list[str] = self._tokenizer.batch_decode(made[:, width:], skip_special_tokens=True)
        return said


class Served:
    """`ft serve` with a version for each adapter, asked by OpenAI's client."""

    def __init__(self, folder: Path, plain: Plain) -> None:
        self.home, self.port = folder / "ft", free_port()
        self.home.mkdir()
        database = Database.open(f"sqlite:///{self.home / 'ft.db'}")
        for number, place in enumerate(plain.adapters):
            job = _job(number, plain.base, {"path": str(place), "digest": digest(place)})
            SqlJobs(database).submit(job, Event(kind="state", message="trained", at=job.created_at), force=True)
            SqlModels(database).add_model(job, job.created_at)
        database.close()
        env = {**os.environ, "FT_HOME": str(self.home), "HF_HUB_OFFLINE": "1"}
        argv = [FT, "serve", "--port", str(self.port)]
        with (self.home / "log").open("wb") as log:
            self._child = Child(argv, stop_signal=signal.SIGTERM, stdout=log, stderr=subprocess.STDOUT, env=env)
        self._client = openai.OpenAI(base_url=f"http://{HOST}:{self.port}/v1", api_key="none", timeout=60)
        wait_until(self._answers, 60, "the server", every_s=0.1)

    def one(self, number: int) -> str:
        """What this adapter says to its question."""
        chat: Any = [{"role": "user", "content": QUESTIONS[number]}]
        answer = self._client.chat.completions.create(
            model=f"bot-{number}@v1", messages=chat, max_tokens=TOKENS, temperature=0
        )
        assert answer.usage is not None
        assert answer.usage.completion_tokens == TOKENS, "an answer has ended early"
        return answer.choices[0].message.content or ""

    def stop(self) -> None:
        """End it."""
        self._client.close()
        self._child.stop(30)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://{HOST}:{self.port}/health", trust_env=False).is_success
        except httpx.TransportError:
            return False


def _job(number: int, base_model: Path, artifact: dict[str, str]) -> Job:
    at = datetime.now(UTC)
    return Job(
        id=f"ft_{number:010}",
        name=f"bot-{number}",
        owner="bench",
        provider="local",
        base_model=str(base_model),
        recipe={},
        data={},
        fingerprint=f"{number:064}",
        state=JobState.SUCCEEDED,
        artifact=artifact,
        created_at=at,
        changed_at=at,
        finished_at=at,
    )


def answers(place: Path, rounds: int) -> None:
    """Print (c) and (d) for each size."""
    # Both sides alike. Threads that wait by spinning, as they do by default, measure who else is on the machine.
    os.environ.update(OMP_NUM_THREADS="1", OMP_WAIT_POLICY="PASSIVE")
    for size, (hidden, layers) in SIZES.items():
        folder = place / size
        folder.mkdir()
        plain = Plain(folder, hidden, layers)
        served = Served(folder, plain)
        try:
            right = [_readable(plain.one(number)) for number in range(ADAPTERS)]
            said = [_readable(served.one(number)) for number in range(ADAPTERS)]
            assert said == right, "the server says something else"
            assert [_readable(text) for text in plain.mixed()] == right, "a mixed batch says something else"
            assert len(set(right)) > ADAPTERS // 2, "the adapters say the same"
            name = f"{size} (hidden {hidden}, {layers} layers)"
            _alone(name, plain, served, rounds)
            _at_once(name, plain, served, rounds)
        finally:
            served.stop()


def _readable(text: str) -> str:
    """Without what random weights make of bytes: a text that grows token by token has other broken characters."""
    return "".join(letter for letter in text if letter.isascii())


def _alone(name: str, plain: Plain, served: Served, rounds: int) -> None:
    """(c)."""
    ours, theirs = [], []
    for number in range(rounds):
        theirs.append(_seconds(lambda n=number: plain.one(n % ADAPTERS)))  # type: ignore[misc]
        ours.append(_seconds(lambda n=number: served.one(n % ADAPTERS)))  # type: ignore[misc]
    one, other = statistics.median(ours) * 1e3, statistics.median(theirs) * 1e3
    print(
        f"(c) {name}: {TOKENS} tokens, p50 of {rounds}: embedded server {one:.0f} ms, transformers' generate"
        f" {other:.0f} ms: {one - other:+.0f} ms a request, {one / other:.2f} times",
        flush=True,
    )


def _at_once(name: str, plain: Plain, served: Served, rounds: int) -> None:
    """(d)."""
    everyone = range(ADAPTERS)
    taken: dict[str, list[float]] = {"one by one": [], "at once": [], "plain": [], "mixed": []}
    with ThreadPoolExecutor(ADAPTERS) as pool:
        for _ in range(max(3, rounds // 4)):
            taken["one by one"].append(_seconds(lambda: [served.one(number) for number in everyone]))
            taken["at once"].append(_seconds(lambda: list(pool.map(served.one, everyone))))
            taken["plain"].append(_seconds(lambda: [plain.one(number) for number in everyone]))
            taken["mixed"].append(_seconds(plain.mixed))
    rate = {kind: ADAPTERS * TOKENS / statistics.median(values) for kind, values in taken.items()}
    print(
        f"(d) {name}: {ADAPTERS} adapters, tokens/s: embedded server one after the other {rate['one by one']:.0f}, at"
        f" once {rate['at once']:.0f} ({rate['at once'] / rate['one by one']:.2f} times); in this process one after"
        f" the other {rate['plain']:.0f}, one mixed batch of PEFT {rate['mixed']:.0f}"
        f" ({rate['mixed'] / rate['plain']:.2f} times)",
        flush=True,
    )


def _seconds(what: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    what()
    return time.perf_counter() - begun
