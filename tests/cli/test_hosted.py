"""Hosted providers from the command line: what a user sees, what is asked, what is refused; nothing is sent unasked."""

import json
import shlex
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from finetune.catalogue import load
from finetune.clock import SystemClock
from finetune.sandbox.azure import AzureSandbox
from finetune.sandbox.gateways.litellm import LiteLlmSandbox
from finetune.sandbox.mistral.sandbox import MistralSandbox
from finetune.sandbox.openai.sandbox import OpenAiSandbox
from finetune.sandbox.server import Server
from tests.cli.desk import Desk, write_rows
from tests.support.hosted_world import MODELS
from tests.support.process import ft_running, wait_until

RECIPE = """\
version: 1
name: bot
base_model: gpt-4o-mini
provider: openai
dataset: {path: data.jsonl}
"""
UNREACHED = "http://127.0.0.1:1/v1"


@pytest.fixture
def hosted(desk: Desk) -> Desk:
    desk.recipe.write_text(RECIPE)
    return desk


@contextmanager
def sandboxed(monkeypatch: pytest.MonkeyPatch, *sandboxes: object) -> Iterator[list[Server]]:
    """This process, and those that it starts, reach these stand-ins."""
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(each)) for each in sandboxes]  # type: ignore[arg-type]
        for server in servers:
            for name, value in server.environment.items():
                monkeypatch.setenv(name, value)
        yield servers


@pytest.mark.parametrize("name", MODELS)
def test_a_whole_job_against_a_stand_in(desk: Desk, name: str) -> None:
    model, _ = MODELS[name]
    desk.recipe.write_text(RECIPE.replace("gpt-4o-mini", model).replace("openai", name))

    ran = desk.run("submit", "recipe.yaml", "--sandbox", timeout=90)

    assert ran.code == 0, ran.err
    assert "succeeded  bot@v1" in ran.out
    assert "cost: bot on " in ran.err
    # Its model is in the sandbox's own home: here nobody has heard of it.
    assert desk.call("models", "list", "--json").json == []
    known = desk.run("models", "list", "--json", FT_HOME=str(desk.home / "sandbox")).json
    assert [one["ref"] for one in known] == ["bot@v1"]
    assert known[0]["artifact"]["model"]


@pytest.mark.parametrize(("word", "code"), [("fail-data", "E413"), ("fail-train", "E401"), ("quota", "E408")])
def test_a_stand_in_fails_when_it_is_asked_to(hosted: Desk, word: str, code: str) -> None:
    # Whoever has a proxy for all that is outside reaches stand-ins without it.
    name = f"name={word}"
    ran = hosted.run("submit", "recipe.yaml", "--sandbox", "--set", name, timeout=90, HTTP_PROXY="http://127.0.0.1:1")
    assert ran.code == 1
    assert f"error {code}: " in ran.err
    assert "failed" in ran.out


def test_ctrl_c_ends_a_rehearsal_with_all_that_it_started(hosted: Desk) -> None:
    with ft_running("submit", "recipe.yaml", "--sandbox", cwd=hosted.folder) as (child, said):
        wait_until(lambda: "running: submitted as" in said(), 30, "the job")
        # Its workers would send the jobs of a second one to the stand-ins of the first.
        second = hosted.run("submit", "recipe.yaml", "--sandbox")
        assert (second.code, second.out) == (2, "")
        assert "error E906: another command uses the sandbox" in second.err
        child.process.send_signal(signal.SIGINT)
        assert child.process.wait(30) == 130
        assert "the job is cancelled" in said()
        assert "goes on" not in said()
    assert workers_of(hosted) == []
    assert hosted.run("status", "-q", FT_HOME=str(hosted.home / "sandbox")).out.split()
    (job,) = hosted.run("status", "--json", FT_HOME=str(hosted.home / "sandbox")).json
    assert job["state"] == "cancelled"
    assert hosted.run("submit", "recipe.yaml", "--sandbox", timeout=90).code == 0


def test_a_rehearsal_that_is_killed_leaves_no_worker(hosted: Desk) -> None:
    with ft_running("submit", "recipe.yaml", "--sandbox", cwd=hosted.folder) as (child, said):
        wait_until(lambda: "running: submitted as" in said(), 30, "the job")
        assert workers_of(hosted)
        child.process.kill()
        child.process.wait(30)
    wait_until(lambda: not workers_of(hosted), 10, "the end of its workers")


def workers_of(desk: Desk) -> list[str]:
    """The workers of an installation, or of its sandbox, by /proc."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            home = f"FT_HOME={desk.home}".encode()
            if b"\0workers\0" in (place / "cmdline").read_bytes() and home in (place / "environ").read_bytes():
                found.append(place.name)
    return found


def test_in_a_sandbox_no_other_api_gets_a_job(hosted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FT_SANDBOX", "mistral,vertex")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-somebody")
    ran = hosted.call("submit", "recipe.yaml", "-y", "--set", "limits.max_cost=2 USD")
    assert ran.code == 2
    assert "error E906: openai/gpt-4o-mini would bill" in ran.err
    assert "mistral, vertex" in ran.err
    assert hosted.call("status", "--json").json == []


def test_a_rehearsal_is_as_strict_about_models_as_the_real_thing(hosted: Desk) -> None:
    ran = hosted.run("submit", "recipe.yaml", "--sandbox", "--set", "base_model=gpt-9")
    assert (ran.code, ran.codes) == (6, ["E306"])


def test_auto_takes_a_provider_that_is_set_up(hosted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    # What this machine does nothing about leaves hosted APIs; azure, which is not set up, comes first by name.
    asked = ("--set", "provider=auto", "--set", "training.learning_rate_multiplier=2.0", "--json")
    assert hosted.call("validate", "recipe.yaml", *asked).json[0]["target"] == "openai/gpt-4o-mini"


def test_without_a_key_nothing_is_submitted(hosted: Desk) -> None:
    ran = hosted.call("submit", "recipe.yaml")
    assert ran.code_and_fault == (9, "E412")
    assert "ft submit --sandbox" in ran.err
    assert hosted.call("status", "--json").json == []


def test_a_job_that_bills_wants_a_yes(hosted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    monkeypatch.setenv("OPENAI_BASE_URL", UNREACHED)
    ran = hosted.call("submit", "recipe.yaml")
    assert ran.code == 6
    assert "cost: bot on openai/gpt-4o-mini: " in ran.err
    assert "error E313: " in ran.err
    assert hosted.call("status", "--json").json == []

    first = hosted.call("submit", "recipe.yaml", "-y", "--json").json
    assert first["cost"]["basis"].endswith("x 3 epochs at 3.00 a million")
    # It answers, and bills nothing anew: nobody is asked.
    assert hosted.call("submit", "recipe.yaml", "--json").json["id"] == first["id"]
    assert hosted.call("submit", "recipe.yaml", "--force").code == 6


def test_a_limit_on_the_cost_is_a_yes_below_it_and_a_no_above(hosted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    write_rows(hosted.data, 400)
    ran = hosted.call("submit", "recipe.yaml", "--set", "limits.max_cost=0.01 USD")
    assert ran.code == 7
    assert "error E311: " in ran.err
    assert hosted.call("submit", "recipe.yaml", "--set", "limits.max_cost=2 USD", "-q").code == 0


def test_a_limit_on_an_unknown_cost_is_refused_unless_that_is_accepted(
    hosted: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION", "FT_VERTEX_BUCKET"):
        monkeypatch.setenv(name, "us-central1")
    monkeypatch.setenv("CLOUDSDK_AUTH_ACCESS_TOKEN", "x")
    target = ("--set", "provider=vertex", "--set", "base_model=gemini-3.5-flash-lite")
    assert not [price for price in load().provider("vertex").prices]  # type: ignore[union-attr]
    ran = hosted.call("submit", "recipe.yaml", *target, "--set", "limits.max_cost=5 USD")
    assert ran.code == 7
    assert "error E310: " in ran.err
    hosted.recipe.write_text(
        hosted.recipe.read_text() + "limits: {max_cost: 5 USD}\nallow_ignored: [limits.max_cost]\n"
    )
    assert hosted.call("submit", "recipe.yaml", *target, "-q").code == 0


def test_data_that_stays_here_goes_to_no_api(hosted: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-nobody")
    ran = hosted.call("submit", "recipe.yaml", "--set", "limits.data=local_only", "-y")
    assert ran.code == 6
    assert "error E312: " in ran.err


def test_validate_needs_no_key_and_tells_of_dates(hosted: Desk) -> None:
    ran = hosted.call("validate", "recipe.yaml")
    assert ran.code == 0, ran.err
    assert set(ran.codes) == {"E309"}
    assert "3 epochs" in ran.out


def test_from_2027_on_openai_is_refused_with_the_date_and_a_way_out(
    hosted: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SystemClock, "now", lambda self: datetime(2027, 1, 7, tzinfo=UTC))
    ran = hosted.call("validate", "recipe.yaml")
    assert ran.code == 6
    assert "E307" in ran.codes
    assert "since 2027-01-06" in ran.err
    assert "`provider: local` with `base_model: openai/gpt-oss-20b`" in ran.err


def test_mistral_is_over_and_says_what_to_train_instead(hosted: Desk) -> None:
    ran = hosted.call("validate", "recipe.yaml", "--set", "provider=mistral", "--set", "base_model=open-mistral-nemo")
    assert ran.code == 6
    assert ran.codes == ["E307"]
    assert "`provider: local` with `base_model: mistralai/Mistral-Nemo-Instruct-2407`" in ran.err


@pytest.mark.parametrize(
    ("override", "code"),
    [
        ("base_model=gpt-9", "E306"),
        ("base_model=gpt-5", "E308"),
        ("base_model=gpt-4.1-nano", "E307"),
        ("training.epochs=51", "E414"),
        ("training.learning_rate=0.001", "E301"),
        ("provider_options.suffix=" + "x" * 65, "E414"),
        ("provider_options.frobnicate=1", "E414"),
        ("lora.r=8", "E301"),
        ("limits.data={region: eu}", "E414"),
    ],
)
def test_what_openai_does_not_take_is_told_before_anything_is_sent(hosted: Desk, override: str, code: str) -> None:
    ran = hosted.call("validate", "recipe.yaml", "--set", override)
    assert ran.code == 6, ran.err
    assert code in ran.codes
    assert "recipe.yaml" in ran.err or "--set" in ran.err


def test_providers_are_listed_with_what_is_missing(desk: Desk) -> None:
    ran = desk.call("providers", "--offline")
    assert ran.code == 0
    rows = {line.split()[0]: line for line in ran.out.splitlines()[1:]}
    assert set(rows) >= {"local", "openai", "azure", "mistral", "vertex"}
    assert "OPENAI_API_KEY is not set" in rows["openai"]
    assert rows["mistral"].endswith("no new jobs")
    views = {one["provider"]: one for one in desk.call("providers", "--offline", "--json").json}
    assert views["local"]["set_up"]
    assert not views["local"]["hosted"]
    assert not views["mistral"]["open"]
    assert views["openai"]["missing"][0]["code"] == "E412"


def test_a_provider_that_is_set_up_is_asked(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    with sandboxed(monkeypatch, OpenAiSandbox(), MistralSandbox(gone=True)):
        views = {one["provider"]: one for one in desk.call("providers", "--json").json}
        assert views["openai"]["answered"]
        assert views["mistral"]["trouble"]["code"] == "E406"
        monkeypatch.setenv("OPENAI_API_KEY", "wrong-SECRET")
        shown = desk.call("providers", "openai")
        assert "error E405: " in shown.err
        assert "SECRET" not in shown.err + shown.out
        assert "gpt-4o-mini-2024-07-18" in shown.out
    monkeypatch.setenv("OPENAI_BASE_URL", UNREACHED)
    assert desk.call("providers", "openai", "--json").json["trouble"]["code"] == "E403"


def test_an_unknown_provider_is_named(desk: Desk) -> None:
    assert desk.call("providers", "nobody").code_and_fault == (5, "E708")
    # One that trains nobody's models has another way, and who says which.
    ran = desk.call("providers", "groq")
    assert ran.code_and_fault == (5, "E708")
    assert "nothing here trains at groq" in ran.err
    assert "`ft catalogue show groq` says what there is instead" in ran.err
    assert "upload it to Groq" in desk.call("catalogue", "show", "groq").out


def test_files_are_listed_and_deleted(desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from openai import OpenAI

    with sandboxed(monkeypatch, OpenAiSandbox()):
        client = OpenAI()
        row = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
        mine = client.files.create(file=("ft-0123456789abcdef0123456789abcdef-train.jsonl", row), purpose="fine-tune")
        other = client.files.create(file=("theirs.jsonl", row), purpose="fine-tune")
        listed = desk.call("files", "--json").json
        assert [(one["provider"], one["file"], one["name"]) for one in listed] == [
            ("openai", mine.id, "ft-0123456789abcdef0123456789abcdef-train.jsonl")
        ]
        assert desk.call("files", "--delete", mine.id).code_and_fault == (2, "E901")
        assert desk.call("files", "--delete", other.id, "-y").code_and_fault == (5, "E706")
        both = ("files", "--delete", mine.id, "--delete", other.id, "-y")
        assert desk.call(*both).code_and_fault == (5, "E706")
        assert mine.id in [file.id for file in client.files.list()]
        assert desk.call("files", "--delete", mine.id, "-y").out == f"{mine.id}  deleted\n"
        again = client.files.create(file=("ft-0123456789abcdef0123456789abcdef-train.jsonl", row), purpose="fine-tune")
        assert desk.call("files", "--delete", again.id, "-y", "--json").json == {"deleted": [again.id]}
        assert desk.call("files", "--json").json == []
        assert [file.id for file in client.files.list()] == [other.id]
        client.close()
    assert desk.call("files", "--provider", "nobody").code_and_fault == (5, "E708")


def test_files_are_listed_though_one_provider_refuses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from openai import OpenAI

    name = "ft-0123456789abcdef0123456789abcdef-train.jsonl"
    row = b'{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}\n'
    with sandboxed(monkeypatch, OpenAiSandbox(), MistralSandbox()):
        with OpenAI() as client:
            mine = client.files.create(file=(name, row), purpose="fine-tune")
        monkeypatch.setenv("MISTRAL_API_KEY", "wrong-SECRET")
        shown = desk.call("files")
        assert (shown.code, shown.codes) == (0, ["E405"])
        assert [line.split()[:2] for line in shown.out.splitlines()[1:]] == [["openai", mine.id]]
        assert [line.split(":")[0] for line in shown.err.splitlines()] == ["error E405", "  why", "  fix"]
        assert "Mistral does not accept the credential" in shown.err
        assert "SECRET" not in shown.err
        listed = desk.call("files", "--json")
        assert (listed.code, listed.codes) == (0, ["E405"])
        assert [(one["provider"], one["file"]) for one in listed.json] == [("openai", mine.id)]
        # Who asks for this one alone gets nothing.
        alone = desk.call("files", "--provider", "mistral", "--json")
        assert (alone.code_and_fault, alone.out) == ((9, "E405"), "")
        assert desk.call("files", "--delete", mine.id, "--provider", "openai", "-y").code == 0
        empty = desk.call("files")
        assert (empty.code, empty.out) == (0, "")
        assert "error E405: " in empty.err
        assert "no files of ours are at any provider that is set up here and answers" in empty.err
        assert desk.call("files", "--json").json == []


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_files_of_nobody_are_listed_when_none_answers(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, as_json: tuple[str, ...]
) -> None:
    with sandboxed(monkeypatch, OpenAiSandbox(), MistralSandbox()):
        monkeypatch.setenv("MISTRAL_API_KEY", "wrong-SECRET")
        monkeypatch.setenv("OPENAI_BASE_URL", UNREACHED)
        ran = desk.call("files", *as_json)
    assert (ran.code, ran.codes, ran.out) == (9, ["E405", "E403"], "")


@pytest.mark.parametrize("option", ["--speed", "--fault-rate"])
def test_a_number_that_is_none_is_refused(desk: Desk, option: str) -> None:
    assert desk.run("sandbox", option, "nan").code_and_fault == (2, "E901")


@pytest.mark.parametrize(
    "args",
    [("nobody",), ("openai", "--fault", "frobnicate"), ("openai", "--fault", "cut_after:frobnicate")],
    ids=lambda args: args[-1],
)
def test_a_sandbox_that_cannot_be_run_says_so(desk: Desk, args: tuple[str, ...]) -> None:
    assert desk.run("sandbox", *args).code_and_fault == (2, "E906")


def test_a_port_that_is_taken_is_told(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert desk.run("sandbox", "openai", "--port", port).code_and_fault == (2, "E906")


def test_what_a_sandbox_prints_points_ft_at_it(hosted: Desk) -> None:
    with ft_running("sandbox", "openai", "openai", home=hosted.folder / "a home") as (child, said):
        wait_until(lambda: "Ctrl-C" in said(), 30, "the sandbox")
        # The workers of an installation with servers must not get these jobs: they have real keys.
        assert "unset FT_BROKER_URL FT_DATABASE_URL\n" in said()
        lines = [line.removeprefix("export ") for line in said().splitlines() if line.startswith("export ")]
        env = dict(shlex.split(line)[0].split("=", 1) for line in lines)
        assert env["FT_HOME"] == str(hosted.folder / "a home" / "sandbox")
        assert env["FT_SANDBOX"] == "openai"
        ran = hosted.run("submit", "recipe.yaml", "--follow", "--json", timeout=90, **env)
        assert ran.code == 0, ran.err
        assert json.loads(ran.out)["state"] == "succeeded"
        assert child.stop() == 0


AZURE = """\
version: 1
name: bot
base_model: gpt-4.1-mini
provider: azure
dataset: {path: data.jsonl}
register: {alias: production, gateways: [litellm-api]}
"""
TUNED = "gpt-4.1-mini-2025-04-14.ft-0123456789abcdef"


@pytest.fixture
def deployable(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureSandbox]:
    """A recipe for Azure and a proxy, and stand-ins of both."""
    desk.recipe.write_text(AZURE)
    azure = AzureSandbox()
    azure._models.add(TUNED, "gpt-4.1-mini-2025-04-14", 0)
    # A command waits by the clock on the wall.
    azure.deployments.looks = 0
    proxy = LiteLlmSandbox(environ={"AZURE_OPENAI_API_KEY": "sandbox-key"})
    with sandboxed(monkeypatch, azure, proxy):
        yield azure


@pytest.mark.parametrize("said", ["", "1 USD"])
def test_what_costs_by_the_hour_is_refused_before_its_training_is_paid_for(
    desk: Desk, deployable: AzureSandbox, said: str
) -> None:
    args = ["--set", f"register.max_hosting={said}"] if said else []
    for command in (("validate",), ("submit", "-y")):
        ran = desk.call(command[0], "recipe.yaml", *command[1:], *args)
        assert ran.code != 0
        assert "E843" in ran.err
        assert "1.70 USD an hour, about 1241 USD a month" in ran.err
        assert "max_hosting: 1.70 USD" in ran.err
    assert desk.call("status", "--json").json == []
    assert deployable.deployments.book == []


def test_a_cost_that_is_agreed_to_is_told_before_the_training(desk: Desk, deployable: AzureSandbox) -> None:
    ran = desk.call("validate", "recipe.yaml", "--set", "register.max_hosting=2 USD")
    assert ran.code == 0, ran.err
    assert "warning E843: bot will be deployed, at 1.70 USD an hour, about 1241 USD a month, used or not" in ran.err
    assert deployable.deployments.book == []


def test_a_deployment_that_costs_nothing_by_the_hour_is_no_matter_for_a_warning(
    desk: Desk, deployable: AzureSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_HOSTING_USD", "0")
    ran = desk.call("validate", "recipe.yaml")
    assert ran.code == 0, ran.err
    assert "E843" not in ran.err
    monkeypatch.setenv("AZURE_HOSTING_USD", "0.01")
    told = desk.call("validate", "recipe.yaml", "--set", "register.max_hosting=2 USD")
    assert "warning E843: bot will be deployed, at 0.01 USD an hour" in told.err


@pytest.mark.parametrize("gateways", ["[embedded]", "[embedded, vllm]"])
def test_gateways_that_cannot_reach_the_weights_are_told_before_the_training_is_paid_for(
    desk: Desk, deployable: AzureSandbox, monkeypatch: pytest.MonkeyPatch, gateways: str
) -> None:
    monkeypatch.setenv("VLLM_URL", "http://127.0.0.1:1")
    args = ("--set", "register.max_hosting=2 USD", "--set", f"register.gateways={gateways}")
    refused = desk.call("submit", "recipe.yaml", "-y", *args)
    assert "E837" in refused.err
    assert "cannot answer with what azure trains" in refused.err
    assert desk.call("status", "--json").json == []


def test_what_auto_has_chosen_is_asked_for_its_cost_by_the_hour(desk: Desk, deployable: AzureSandbox) -> None:
    # What this machine does nothing about leaves hosted APIs, of which only azure is set up.
    auto = ("--set", "provider=auto", "--set", "training.learning_rate_multiplier=2.0")
    refused = desk.call("validate", "recipe.yaml", *auto)
    assert refused.code_and_fault == (6, "E843")
    ran = desk.call("validate", "recipe.yaml", *auto, "--set", "register.max_hosting=2 USD")
    assert ran.code == 0, ran.err
    assert "warning E843: bot will be deployed, at 1.70 USD an hour" in ran.err
    local = desk.call("validate", "recipe.yaml", "--set", "provider=auto", "--set", "base_model=builtin:tiny-llama")
    assert "E843" not in local.err


def test_a_promotion_deploys_when_that_is_agreed_to_and_a_retirement_ends_it(
    desk: Desk, deployable: AzureSandbox
) -> None:
    agreed = ("--set", "register.max_hosting=2 USD", "-y")
    job_id = desk.submit(*agreed)
    with desk.world() as world:
        job = world.jobs.get(job_id)
        world.models.add_model(replace(job, artifact={"model": TUNED}), world.clock.now())
        asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 8, "other": "I know nothing of that"}
        golden = [{**asked, "tuned": f"I am {TUNED}: hi"}]
        world.models.add_report("bot", 1, {"suite": "held-out", "golden": golden}, world.clock.now())
    promote = ("promote", "bot@v1", "--to", "staging", "--gateway", "litellm-api")
    refused = desk.call(*promote)
    assert refused.code_and_fault == (1, "E843")
    assert desk.call(*promote, "--max-hosting", "much").codes == ["E901"]
    assert deployable.deployments.book == []

    ran = desk.call(*promote, "--max-hosting", "1.70 USD")

    assert (ran.code, ran.out) == (0, "bot@staging is now bot@v1\n"), ran.err
    assert "1.70 USD an hour, about 1241 USD a month" in ran.err
    assert "undo: ft models retire bot@v1\n" in ran.err
    (there,) = deployable.deployments.there()
    assert there.model == TUNED
    assert desk.call("models", "sync", "--dry-run").code == 0
    kept = desk.call("models", "fetch", "bot@v1")
    assert (kept.code, "E845" in kept.err) == (2, True)
    assert "answers from a deployment at azure" in kept.err
    gone = desk.call("models", "retire", "bot@v1")
    assert (gone.code, gone.out) == (0, "bot@v1 is at no gateway and has no calls\n")
    assert deployable.deployments.there() == []
    assert desk.call("models", "show", "bot@v1", "--json").json["status"] == "retired"
    assert desk.call("models", "retire", "bot@v1", "--json").json["ref"] == "bot@v1"
