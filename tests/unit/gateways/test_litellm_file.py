"""The file of models and how the proxy is told of it, without a proxy."""

import threading
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import yaml

from finetune.clock import SystemClock
from finetune.deployments import Deployment, GatewayKit, Upstream
from finetune.errors import GatewayError, GatewayUnavailable, UsageError
from finetune.gateways import litellm, litellm_api
from finetune.gateways.litellm_entries import entry
from finetune.gateways.litellm_file import ModelsFile
from finetune.gateways.litellm_reload import Reload
from finetune.testing import ManualClock
from tests.support.process import wait_until

UPSTREAM = Upstream(kind="hosted_vllm", model="bot-v1", api_base="http://127.0.0.1:8000/v1")
ENTRY = entry(Deployment(ref="bot@v1", public="bot", digest="a" * 64, base_model="b", upstream=UPSTREAM))


@pytest.fixture
def file(tmp_path: Path) -> ModelsFile:
    return ModelsFile(tmp_path / "models.yaml", ManualClock())


def test_what_is_written_is_read_again_and_is_plain_yaml(file: ModelsFile) -> None:
    assert (file.raw(), file.entries()) == (None, [])
    file.write([ENTRY])
    assert file.entries() == [ENTRY]
    assert yaml.safe_load(file.path.read_text()) == {"model_list": [ENTRY]}
    assert [path.name for path in file.path.parent.iterdir()] == ["models.yaml"]
    file.put(None)
    assert file.path.read_text() == "model_list: []\n"


def test_others_may_read_it_as_before(file: ModelsFile) -> None:
    file.write([])
    assert file.path.stat().st_mode & 0o777 == 0o644
    file.path.chmod(0o640)
    file.write([ENTRY])
    assert file.path.stat().st_mode & 0o777 == 0o640


def test_a_link_leads_to_the_file_that_is_written(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "models.yaml"
    link.symlink_to(tmp_path / "there" / "real.yaml")
    ModelsFile(link, ManualClock()).write([ENTRY])
    assert link.is_symlink()
    assert "bot@v1" in (tmp_path / "there" / "real.yaml").read_text()


def test_what_the_proxy_could_not_load_is_not_written(file: ModelsFile) -> None:
    file.write([ENTRY])
    before = file.raw()
    with pytest.raises(GatewayError, match="stands in it twice"):
        file.write([ENTRY, ENTRY])
    assert file.raw() == before


@pytest.mark.parametrize(
    "raw", [b"model_list: [", b"\xff", b"- 1", b"a: !!python/object:os.system {}", b"model_list: 3"]
)
def test_what_cannot_be_read_is_a_problem_of_the_file(file: ModelsFile, raw: bytes) -> None:
    file.path.write_bytes(raw)
    with pytest.raises(GatewayError) as caught:
        file.entries()
    assert [(one.code, one.file) for one in caught.value.problems] == [("E822", str(file.path))]
    assert file.problems() == list(caught.value.problems)


def test_a_folder_that_is_not_there_is_found_before(tmp_path: Path) -> None:
    (problem,) = ModelsFile(tmp_path / "no" / "models.yaml", ManualClock()).problems()
    assert (problem.code, "no such folder" in problem.why) == ("E822", True)


def test_a_second_one_waits_and_gives_up(file: ModelsFile) -> None:
    with file.locked(), pytest.raises(GatewayUnavailable, match="another process"), file.locked():
        pass
    with file.locked():
        pass


def test_a_second_one_goes_on_when_the_first_has_ended(tmp_path: Path) -> None:
    file = ModelsFile(tmp_path / "models.yaml", SystemClock())
    order: list[str] = []

    def second() -> None:
        with file.locked():
            order.append("second")

    with file.locked():
        other = threading.Thread(target=second)
        other.start()
        order.append("first")
    wait_until(lambda: len(order) == 2, 10, "the second to go on")
    other.join()
    assert order == ["first", "second"]


def test_both_are_entry_points() -> None:
    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    entries = project["entry-points"]["ft.gateways"]
    for name, module in (("litellm", litellm), ("litellm-api", litellm_api)):
        assert EntryPoint(name, entries[name], "ft.gateways").load() is module.build


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({}, "FT_LITELLM_FILE is not set"),
        ({"FT_LITELLM_FILE": "m.yaml"}, "neither FT_LITELLM_PID nor FT_LITELLM_RELOAD"),
        ({"FT_LITELLM_FILE": "m.yaml", "FT_LITELLM_RELOAD": "'"}, "the command cannot be read"),
        ({"FT_LITELLM_FILE": "m.yaml", "FT_LITELLM_PID": "p", "LITELLM_URL": "localhost"}, "LITELLM_URL"),
    ],
)
def test_what_is_not_set_is_named(environ: dict[str, str], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        litellm.build(GatewayKit(environ=environ, clock=ManualClock(), port=0))
    assert {one.code for one in caught.value.problems} == {"E825"}


@pytest.mark.parametrize("content", ["", "x", "0", "1", "-5"])
def test_a_file_that_holds_no_process_id_ends_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)
    reload = Reload(tmp_path / "pid")
    for call in (reload.guard, reload.send):
        with pytest.raises(GatewayError, match="holds no process id"):
            call()
    assert (reload.workers(), reload.dead()) == (None, False)
    with pytest.raises(GatewayUnavailable):
        Reload(tmp_path / "nobody").guard()
