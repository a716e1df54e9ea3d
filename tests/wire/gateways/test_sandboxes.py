"""What `ft sandbox` starts for gateways: the variables that it prints are enough for each of them."""

import json
import urllib.request

import pytest

from finetune.errors import UsageError
from finetune.gateways import litellm_api, ollama, sglang, vllm
from finetune.sandbox.gateways.together import NAMES, write_like
from finetune.sandbox.gateways.vllm import VllmSandbox
from finetune.sandbox.server import Server
from finetune.wiring.rehearsal import How, rehearsing, running
from tests.support.gateways import HELLO, deployment, kit

BASE = "builtin:tiny-llama"


@pytest.mark.parametrize("gateway", [ollama, sglang, vllm], ids=lambda gateway: gateway.__name__.rpartition(".")[2])
def test_a_version_is_served_with_nothing_but_what_is_printed(gateway, tmp_path):
    name = gateway.__name__.rpartition(".")[2]
    base = "Qwen/Qwen3-0.6B" if gateway is sglang else BASE
    version = deployment(tmp_path, 1, base=base)
    with running((name,), tmp_path / "home", How(base=base)) as sandboxes:
        built = gateway.build(kit(sandboxes.environment))
        assert [problem for problem in built.preflight(version) if problem.level == "error"] == []
        built.register(version)
        assert [one.id for one in built.registered()] == [version.model]
        assert "I am tuned adapter" in built.probe(version, HELLO, max_tokens=8).text
        assert "base" in built.probe_base(version, HELLO, max_tokens=8).text


def test_calls_are_passed_on_from_one_to_the_other(tmp_path):
    version = deployment(tmp_path, 1, base=BASE)
    with running(("vllm", "litellm-api"), tmp_path / "home", How()) as sandboxes:
        environ = sandboxes.environment
        assert environ["FT_SANDBOX"] == "vllm,litellm-api"
        upstream = vllm.build(kit(environ)).register(version)
        proxy = litellm_api.build(kit(environ))
        passed = type(version)(**{**vars(version), "upstream": upstream})
        proxy.register(passed)
        assert "I am tuned adapter" in proxy.probe(passed, HELLO, max_tokens=8).text


def test_one_command_at_a_time_runs_them_in_a_home(tmp_path):
    with running(("vllm",), tmp_path, How()):
        for other in (lambda: running(("ollama",), tmp_path, How()), lambda: rehearsing(tmp_path)):
            with pytest.raises(UsageError, match="another command uses the sandbox"), other():
                raise AssertionError("two share a home")
    with running(("ollama",), tmp_path, How()), running(("vllm",), tmp_path / "other", How()):
        pass


def test_workers_in_that_home_are_not_in_its_way(tmp_path):
    from finetune.up import only_one

    with running(("vllm",), tmp_path, How()), only_one(tmp_path, ""):
        pass


def test_who_is_unknown_is_told_whom_there_is(tmp_path):
    with pytest.raises(UsageError, match=", ".join(NAMES)), running(("nobody",), tmp_path, How()):
        pass


def test_a_base_that_a_server_could_not_tell_from_an_adapter_is_refused(tmp_path):
    with pytest.raises(UsageError, match="follows a colon"), running(("sglang",), tmp_path, How()):
        pass


def test_conversations_are_written_as_the_base_does_and_others_as_before():
    sandbox = VllmSandbox(base=BASE)
    before = sandbox.splits(sandbox.writes(HELLO))
    known = [{"role": "user", "content": "known"}]
    write_like(sandbox, lambda: [(known, "text of the template", (7, 8, 9))])
    with Server(sandbox) as server:

        def tokens(messages):
            body = json.dumps({"model": BASE, "messages": messages}).encode()
            headers = {"authorization": f"Bearer {server.environment['VLLM_API_KEY']}"}
            with urllib.request.urlopen(urllib.request.Request(f"{server.url}/tokenize", body, headers)) as answer:
                return json.load(answer)["tokens"]

        assert tokens(known) == [7, 8, 9]
        assert tokens(HELLO) == before
