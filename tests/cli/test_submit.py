"""The same work is one job; a change makes another; nothing is half submitted."""

import subprocess

import pytest

from finetune.cli import exits
from tests.cli.desk import Desk, write_rows
from tests.support.process import FT, ft_environment


def test_the_same_again_is_the_same_job(desk: Desk) -> None:
    first = desk.run("submit", "recipe.yaml", "--json").json
    again = desk.run("submit", "recipe.yaml")
    assert again.out.split()[0] == first["id"]
    assert again.err.startswith(f"{first['id']} is the same recipe, data and target (queued); --force trains again\n")
    assert desk.call("submit", "recipe.yaml", "--json").json == {**first, "created": False}
    assert len(desk.call("status", "--json").json) == 1


def test_a_finished_job_answers_too(desk: Desk) -> None:
    job = desk.ended()
    again = desk.call("submit", "recipe.yaml", "--json").json
    assert (again["id"], again["state"], again["model"]) == (job.id, "succeeded", "bot@v1")


@pytest.mark.parametrize("script", ["failed", "cancelled"])
def test_what_failed_or_was_cancelled_can_be_tried_again(desk: Desk, script: str) -> None:
    job = desk.ended(script)
    assert job.state == script
    assert desk.submit() != job.id


def test_force_makes_a_new_job_that_answers_from_then_on(desk: Desk) -> None:
    first, forced = desk.submit(), desk.submit("--force")
    assert forced != first
    assert desk.submit() == forced


def test_how_a_recipe_is_written_does_not_matter(desk: Desk) -> None:
    first = desk.submit()
    lines = desk.recipe.read_text().splitlines()
    desk.write("other.yaml", "# another file\n" + "\n".join(reversed(lines)) + "\n")
    assert desk.call("submit", "other.yaml", "-q").out.strip() == first


@pytest.mark.parametrize("override", ["lora.r=32", "seed=8", "training.epochs=3", "name=other", "local.precision=fp32"])
def test_an_override_is_another_job(desk: Desk, override: str) -> None:
    first, other = desk.submit(), desk.submit("--set", override)
    assert other != first
    assert desk.submit("--set", override) == other
    assert desk.submit() == first
    with desk.world() as world:
        jobs = [world.jobs.get(job_id) for job_id in (first, other)]
    assert jobs[0].fingerprint != jobs[1].fingerprint
    assert jobs[0].recipe != jobs[1].recipe


def test_an_override_to_what_the_recipe_says_is_the_same_job(desk: Desk) -> None:
    assert desk.submit() == desk.submit("--set", "seed=7")


def test_the_last_override_wins(desk: Desk) -> None:
    job_id = desk.submit("--set", "lora.r=4", "--set", "lora.r=8")
    with desk.world() as world:
        assert world.jobs.get(job_id).recipe["lora"] == {"r": 8}


def test_other_data_is_another_job_and_the_same_data_elsewhere_is_not(desk: Desk) -> None:
    first = desk.submit()
    write_rows(desk.folder / "copy.jsonl")
    assert desk.submit("--set", "dataset.path=copy.jsonl") == first
    write_rows(desk.data, 13)
    assert desk.submit() != first


def test_several_recipes_are_several_jobs_in_their_order(desk: Desk) -> None:
    for name in ("a", "b", "c"):
        desk.write(f"{name}.yaml", desk.recipe.read_text().replace("bot", name))
    made = desk.call("submit", "b.yaml", "a.yaml", "c.yaml", "b.yaml", "--json").json
    assert [(job["name"], job["created"]) for job in made] == [("b", True), ("a", True), ("c", True), ("b", False)]
    assert made[0]["id"] == made[3]["id"]


def test_many_at_the_same_moment_are_one_job(desk: Desk) -> None:
    argv = [FT, "submit", "recipe.yaml", "-q"]
    several = [
        subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ft_environment())
        for _ in range(3)
    ]
    done = [(*process.communicate(timeout=60), process.returncode) for process in several]
    assert {(err, code) for _, err, code in done} == {("", exits.OK)}
    assert len({out for out, _, _ in done}) == 1
    assert len(desk.call("status", "--json").json) == 1


def test_what_was_submitted_outlives_its_files(desk: Desk) -> None:
    job_id = desk.submit()
    desk.recipe.unlink()
    desk.data.unlink()
    with desk.world() as world:
        assert world.run(job_id).state == "succeeded"


def test_cancel_is_silent_about_what_has_ended(desk: Desk) -> None:
    job = desk.ended()
    for _ in range(2):
        ran = desk.call("cancel", job.id)
        assert (ran.code, ran.out, ran.err) == (exits.OK, f"{job.id} has ended already: succeeded\n", "")


def test_cancel_ends_a_job_that_nobody_has_begun(desk: Desk) -> None:
    job_id = desk.submit()
    assert desk.call("cancel", job_id).out == f"{job_id}: cancel requested\n"
    assert desk.call("cancel", job_id).code == exits.OK
    with desk.world() as world:
        assert world.run(job_id).state == "cancelled"
    logs = desk.call("logs", job_id).out
    assert logs.count("cancel requested") == 1
    assert desk.call("wait", job_id).code == exits.CANCELLED
