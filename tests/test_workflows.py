"""The workflows of GitHub Actions: they call commands that exist, with no more rights than they need."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parent.parent
PATHS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# The rights beyond reading that a job may have.
RIGHTS = {
    ("publish", "deploy"): {"pages": "write", "id-token": "write"},
    ("weekly", "report"): {"issues": "write"},
}

# Majors before these run on Node 20, which GitHub took from its runners in September 2026.
OLDEST = {
    "checkout": 5,
    "setup-python": 6,
    "cache": 5,
    "configure-pages": 6,
    "upload-pages-artifact": 5,
    "deploy-pages": 5,
}

each_workflow = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def load(path: Path) -> dict:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    workflow["on"] = workflow.pop(True)  # YAML 1.1 reads the word `on` as true
    return workflow


def steps(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def make_targets() -> set[str]:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))


def test_there_are_three_workflows():
    assert {path.stem for path in PATHS} == {"test", "publish", "weekly"}


@each_workflow
def test_every_job_is_complete(path):
    workflow = load(path)
    assert workflow["name"] == path.stem
    assert workflow["on"]
    for job in workflow["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        assert job["timeout-minutes"] <= 180
        assert all(("run" in step) != ("uses" in step) for step in job["steps"])
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(workflow["jobs"])


@each_workflow
def test_every_make_command_exists(path):
    run = "\n".join(step["run"] for step in steps(load(path)) if "run" in step)
    called = set(re.findall(r"\bmake ([a-z-]+)", run))
    assert called
    assert called <= make_targets()


@each_workflow
def test_rights_are_least(path):
    workflow = load(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions", {}) == RIGHTS.get((path.stem, name), {})
        if "permissions" in job:  # code from the checkout never runs with these
            assert not any("checkout" in step.get("uses", "") for step in job["steps"])
    assert "secrets." not in path.read_text(encoding="utf-8")
    assert "pull_request_target" not in workflow["on"]


@each_workflow
def test_actions_are_githubs_own_at_a_major_version(path):
    used = [step["uses"] for step in steps(load(path)) if "uses" in step]
    assert [name for name in used if not re.fullmatch(r"actions/[a-z-]+@v\d+", name)] == []
    versions = [re.match(r"actions/([a-z-]+)@v(\d+)", name).groups() for name in used]
    assert [(name, major) for name, major in versions if int(major) < OLDEST[name]] == []


def test_one_version_of_each_action():
    used = {step["uses"] for path in PATHS for step in steps(load(path)) if "uses" in step}
    assert len(used) == len({name.split("@")[0] for name in used}), sorted(used)


@each_workflow
def test_expressions_do_not_enter_a_shell(path):
    """What GitHub fills in reaches commands through the environment, where a title cannot become a command."""
    assert [step["run"] for step in steps(load(path)) if "${{" in step.get("run", "")] == []


def test_the_weekly_run_measures_what_the_tests_cover_and_audits_the_packages():
    weekly = load(ROOT / ".github/workflows/weekly.yml")
    run = {step.get("run") for step in steps(weekly)}
    assert {"make test", "make coverage", "make audit", "make check-links"} <= run
    assert set(weekly["jobs"]["report"]["needs"]) == set(weekly["jobs"]) - {"report"}
    line = next(x for x in (ROOT / "Makefile").read_text(encoding="utf-8").splitlines() if "--cov" in x)
    assert int(re.search(r"--cov-fail-under=(\d+)", line).group(1)) >= 90


def test_they_run_on_the_books_branch_and_publish_what_make_builds():
    branch = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]["branch"]
    for name in ("test", "publish"):
        assert load(ROOT / f".github/workflows/{name}.yml")["on"]["push"]["branches"] == [branch]
    build = load(ROOT / ".github/workflows/publish.yml")["jobs"]["build"]["steps"]
    upload = next(step for step in build if "upload-pages-artifact" in step.get("uses", ""))
    site = re.search(r"^SITE := (\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE).group(1)
    book = re.search(r"^BOOK := (\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE).group(1)
    assert upload["with"]["path"] == site.replace("$(BOOK)", book).replace("$(EMLIB_PRESET)", "pocket")
    assert {"run": "make book EMLIB_PRESET=pocket"} in build


def test_weekly_starts_from_nothing_and_reports():
    weekly = load(ROOT / ".github/workflows/weekly.yml")
    assert "schedule" in weekly["on"]
    assert not any("cache" in step.get("uses", "") or "cache" in step.get("with", {}) for step in steps(weekly))
    report = weekly["jobs"]["report"]
    assert report["if"] == "failure()"
    assert set(report["needs"]) == set(weekly["jobs"]) - {"report"}
    script = report["steps"][0]["run"]
    assert script.index("gh issue list") < script.index("gh issue create")


def test_unit_tests_run_under_the_oldest_python():
    matrix = load(ROOT / ".github/workflows/test.yml")["jobs"]["unit"]["strategy"]["matrix"]["python"]
    assert matrix == ["3.10", "3.12"]
    assert 'requires-python = ">=3.10"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_weaknesses_and_licences_are_asked_for_every_week():
    assert "make audit" in [step.get("run") for step in steps(load(ROOT / ".github" / "workflows" / "weekly.yml"))]
