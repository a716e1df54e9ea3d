"""The README's commands, run as a newcomer does: top to bottom, in something that looks like a fresh clone."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import typer.main

from finetune.cli.main import app
from tests.support.process import FT, ft_environment, ft_running, wait_until
from tests.support.servers import free_port

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
#: What `ft up` and the README say; the tests take a free one.
PORT = "8765"
PATIENCE_S = 240
#: What stands for itself in the table of commands.
WORDS = {
    "RECIPE": "recipes/quickstart.yaml",
    "DATA": "datasets/quickstart.jsonl",
    "LAYOUT": "gemini",
    "MODEL": "quickstart@v1",
    "NAME": "quickstart",
    "ALIAS": "production",
    "CODE": "E301",
    "N": "5",
    "PROVIDER": "openai",
    "FILE": "file-abc",
    "TABLE": "scores.csv",
    "TARGET": "local/builtin:tiny-llama",
    "JOBS": "jobs.json",
}
#: Lines of shell that need no check of ours.
PLAIN = {".", "cp", "mkdir", "export"}
#: These go on until they are stopped; what shows that they are ready.
ENDLESS = {
    "up": "serving on http://",
    "serve": "serving on http://",
    "worker": "gpu: ready",
    "sandbox": "Ctrl-C ends the sandbox",
}


@dataclass(frozen=True)
class Block:
    """A fenced block and where it begins."""

    language: str
    text: str
    line: int


def blocks(markdown: str) -> Iterator[Block]:
    for match in re.finditer(r"^```(\w+)\n(.*?)^```$", markdown, re.M | re.S):
        yield Block(match[1], match[2], markdown.count("\n", 0, match.start()) + 2)


def commands(block: str) -> Iterator[str]:
    """The commands of a shell block: quotes may span lines, comments are left out."""
    held = ""
    for line in block.splitlines():
        held += line
        if held.endswith("\\"):
            held = held[:-1]
            continue
        try:
            words = shlex.split(held, comments=True)
        except ValueError:  # a quote is still open
            held += "\n"
            continue
        if words:
            yield held
        held = ""
    assert not held, f"no end: {held}"


def table(markdown: str) -> list[str]:
    """First column of the table of commands."""
    return re.findall(r"^\| `(ft [^`]+)` \|", markdown, re.M)


def known_commands() -> dict[str, Any]:
    def walk(words: str, command: Any) -> Iterator[tuple[str, Any]]:
        inner = getattr(command, "commands", {})
        yield from [(words, command)] if not inner or (command.invoke_without_command and words != "ft") else []
        for name, each in inner.items():
            yield from walk(f"{words} {name}", each)

    return dict(walk("ft", typer.main.get_command(app)))


def command_of(line: str) -> str:
    """`ft models list` of a line that calls it."""
    found = [name for name in known_commands() if f"{line} ".startswith(f"{name} ")]
    assert found, f"there is no such command: {line}"
    return max(found, key=len)


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):.*##", MAKEFILE, re.M))


@dataclass
class Newcomer:
    """Somebody who follows a text. Whatever does not work, or is not understood, is an AssertionError."""

    place: Path
    home: Path
    port: str
    stack: ExitStack
    #: Lines that every later one builds on.
    before: list[str] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    #: What the server said, by each way that the text shows.
    answers: list[str] = field(default_factory=list)

    def follow(self, markdown: str) -> None:
        for block in blocks(markdown):
            if block.language == "sh":
                for line in commands(block.text):
                    self.do(line)
            elif block.language == "python":
                self.python(block.text)

    def do(self, line: str) -> None:
        words = shlex.split(line, comments=True)
        match words[0]:
            case "ft":
                self.ft(words)
            case "make":
                self.make(words)
            case "curl":
                self.curl(words)
            case word if word in PLAIN:
                self.shell(line)
                if word in (".", "export"):
                    self.before.append(line)
            case _:
                raise AssertionError(f"nobody knows how to run this line: {line}")

    def ft(self, words: list[str]) -> None:
        if words[1] in ENDLESS:
            self.endless(words)
        else:
            self.shell(shlex.join(words))

    def endless(self, words: list[str]) -> None:
        """Start it, and leave it running till the end of `stack`, when it must end by itself."""
        env = {**self.env, "FT_PORT": self.port if words[1] == "up" else "0"}
        child, said = self.stack.enter_context(ft_running(*words[1:], home=self.home, env=env, cwd=self.place))
        self.stack.callback(lambda: self.ended(child.stop(30), said))
        sign = ENDLESS[words[1]]
        wait_until(lambda: sign in said() or not child.alive, 60, f"{shlex.join(words)} to be ready", every_s=0.2)
        assert child.alive, said()

    @staticmethod
    def ended(code: int, said: Callable[[], str]) -> None:
        assert (code, "Traceback" in said()) == (0, False), said()

    def make(self, words: list[str]) -> None:
        """The target must be there. Of the demo, what it does after the installation is done too."""
        assert set(words[1:]) <= targets(), f"the Makefile lacks a target of: {shlex.join(words)}"
        if words[1:] == ["demo"]:
            (recipe,) = re.findall(r"^demo:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
            for line in recipe.splitlines():
                self.ft(shlex.split(line.replace("$(BIN)/", "")))

    def curl(self, words: list[str]) -> None:
        """What curl does with these options; a fresh machine has none."""
        headers, body, urls = {}, None, []
        rest = iter(words[1:])
        for word in rest:
            if word == "-H":
                name, _, value = next(rest).partition(": ")
                headers[name] = value
            elif word == "-d":
                body = next(rest).encode()
            elif word != "-s":
                urls.append(word)
        (url,) = urls
        assert f":{PORT}/" in url
        request = urllib.request.Request(url.replace(f":{PORT}/", f":{self.port}/"), body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            self.answers.append(json.load(answer)["choices"][0]["message"]["content"])

    def python(self, text: str) -> None:
        assert f":{PORT}/" in text
        argv = [sys.executable, "-c", text.replace(f":{PORT}/", f":{self.port}/")]
        self.answers.append(self.run(argv, "the Python snippet").strip())

    def shell(self, line: str) -> str:
        return self.run(["/bin/sh", "-ec", "\n".join([*self.before, line])], line)

    def run(self, argv: list[str], name: str) -> str:
        done = subprocess.run(
            argv,
            cwd=self.place,
            env=ft_environment(self.home, self.env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
        )
        assert done.returncode == 0, f"{name}\nexit {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, f"{name}\n{done.stderr}"
        self.printed += [done.stdout, done.stderr]
        return done.stdout

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": f"{FT.parent}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    clone = tmp_path / "clone"
    for name in ("recipes", "datasets"):
        shutil.copytree(ROOT / name, clone / name)
    # What `make demo` would have made.
    (clone / ".venv").symlink_to(FT.parent.parent)
    with ExitStack() as stack:
        yield Newcomer(clone, tmp_path / "ft", str(free_port()), stack)


@pytest.mark.timeout(900)
def test_every_command_of_the_readme_does_what_it_says(newcomer: Newcomer) -> None:
    with newcomer.stack:
        newcomer.follow(README)
        by_curl, by_client = newcomer.answers
        assert by_curl == by_client
        assert re.fullmatch(r"queue: \w+ \| order: \S+ \| urgency: \w+", by_curl)
    printed = "".join(newcomer.printed)
    as_shown(printed)
    as_promised(printed)
    known = json.loads(newcomer.shell("ft models show quickstart@v1 --json"))
    cancelled, second = a_cancelled_job(newcomer), a_second_version(newcomer)
    with newcomer.stack:
        newcomer.do("ft worker")
        newcomer.shell(f"ft wait {cancelled} || test $? = 3")
        newcomer.shell(f"ft wait {second}")
    # Something to roll back to: production has been with another version.
    newcomer.shell("ft promote quickstart@v2 --to production -y")
    (newcomer.place / WORDS["TABLE"]).write_text("model,score\nbuiltin:tiny-llama,1\n")
    (newcomer.place / WORDS["JOBS"]).write_text('{"object": "list", "data": []}')
    for line in table(README):
        words = without_options(line)
        # Only what failed or was cancelled can be tried again.
        job_id = cancelled if words[1] == "retry" else known["job_id"]
        for name, value in {**WORDS, "JOB": job_id, "PROMPT": "Hello?"}.items():
            words = [value if word.removesuffix("...") == name else word for word in words]
        assert not [word for word in words if word.isupper() and not re.fullmatch(r"E\d+", word)], line
        with newcomer.stack:
            newcomer.do(shlex.join(words))


def a_cancelled_job(newcomer: Newcomer) -> str:
    """A job that was cancelled before it began. Its end is known when `ft worker` has run."""
    job_id = newcomer.shell("ft submit recipes/quickstart.yaml --set seed=99 -q").strip()
    newcomer.shell(f"ft cancel {job_id} -y")
    return job_id


def a_second_version(newcomer: Newcomer) -> str:
    """A job that trains one, when `ft worker` runs."""
    return newcomer.shell("ft submit recipes/quickstart.yaml --set training.epochs=1 -q").strip()


def as_shown(printed: str) -> None:
    """The demo's output is what the README shows, but for figures, times and ids."""
    (shown,) = [block.text for block in blocks(README) if block.text.startswith("plan: ")]
    # The base model is built on the spot, and kinds of processors differ in the last digits of a sum: which of its
    # greetings it prefers, and which queue the tuned one names where it is not sure, is not the same everywhere.
    words = r"(?<=base      )(?:Thank you for writing to us|I am sorry about the trouble)|(?<=queue: )\w+"
    mask = re.compile(rf"ft_\w{{10}}|\d+(?:[.,:]\d+)*|{words}")
    lines = {mask.sub("#", line) for line in printed.splitlines()}
    assert [line for line in shown.splitlines() if line and mask.sub("#", line) not in lines] == []


def as_promised(printed: str) -> None:
    """On rows that training has not seen the base model fails and the tuned one does not."""
    scores = re.search(r"exact match on (\d+) held-out rows: base (\d\.\d+), tuned (\d\.\d+)", printed)
    assert scores, "the demo compares the models"
    rows, base, tuned = int(scores[1]), float(scores[2]), float(scores[3])
    assert rows >= 40
    assert base <= 0.1
    assert tuned >= 0.8


def without_options(line: str) -> list[str]:
    """The words that must be there. The optional ones are checked to exist."""
    command = known_commands()[command_of(line)]
    options = {option for one in command.params for option in one.opts}
    assert [word for word in re.findall(r"--[a-z-]+", line) if word not in options] == [], line
    return re.sub(r"\s*\[[^]]*\]", "", line).split()


def test_the_table_has_every_command_once() -> None:
    assert sorted(command_of(line) for line in table(README)) == sorted(known_commands())


@pytest.mark.parametrize(
    "text",
    [
        "```sh\nft frobnicate\n```\n",
        "```sh\nft status ft_nothing\n```\n",
        "```sh\nfrobnicate\n```\n",
        "```sh\nmake frobnicate\n```\n",
        "```sh\nft doctor --frobnicate\n```\n",
        "```sh\nft doctor\n# a remark\n. nowhere\n```\n",
    ],
)
def test_a_command_that_cannot_be_run_does_not_pass(newcomer: Newcomer, text: str) -> None:
    with pytest.raises(AssertionError):
        newcomer.follow(text)


@pytest.mark.parametrize("line", ["ft frobnicate JOB", "ft status [--frobnicate]"])
def test_a_row_of_the_table_that_is_untrue_does_not_pass(line: str) -> None:
    with pytest.raises(AssertionError):
        without_options(line)


def test_shell_blocks_are_taken_apart_as_a_shell_does() -> None:
    text = "ft a   # said\n\n# only said\nft b \\\n  -c 'x # y\nz'\nft d\n"
    assert [shlex.split(line, comments=True) for line in commands(text)] == [
        ["ft", "a"],
        ["ft", "b", "-c", "x # y\nz"],
        ["ft", "d"],
    ]
