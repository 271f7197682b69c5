"""The command line in this process: help, mistakes, dry runs, JSON; no step runs here."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import erray
from erray.cli.main import main
from erray.cli.steps import PIPELINE
from tests.unit.lock_holder import holder

REPOSITORY = Path(__file__).parents[3]
STEPS = ["extract", "train", "tune", "predict", "report", "ablate", "pipeline"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder where whatever a command leaves behind shows."""
    folder = tmp_path / "working"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.delenv("ERRAY_HOME", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return folder


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three clips that are no media, and a recipe for them."""
    root = tmp_path / "corpus"
    root.mkdir()
    rows = ["a,a.mp4,train,Anger", "b,b.mp4,val,Anger", "c,c.mp4,test,Anger"]
    (root / "manifest.csv").write_text("\n".join(["clip_id,media,split,label", *rows]) + "\n")
    for name in "abc":
        (root / f"{name}.mp4").write_text(f"not a video: {name}")
    recipe = {"corpus": {"root": str(root), "labels": "basic7"}, "streams": {"logmel": {}}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    return tmp_path / "mine.yaml"


def call(*arguments: str) -> int:
    """Run the command and return its exit code."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


@pytest.mark.parametrize("command", ["demo", "doctor", *STEPS])
def test_every_command_explains_itself(command, capsys):
    assert call(command, "--help") == 0
    text = capsys.readouterr().out
    assert f"{command} [OPTIONS]" in text and "--json" in text
    if command in STEPS:
        for option in ("--recipe", "--set", "--out", "--dry-run"):
            assert option in text


def test_the_overview_names_every_command(capsys):
    assert call("--help") == 0
    text = capsys.readouterr().out
    assert all(f" {command} " in text for command in ("demo", "doctor", *STEPS))


@pytest.mark.parametrize("command", ["demo", *STEPS])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["-r", "absent"],
            "no recipe named 'absent'; expected a .yaml file or one of: cexpr, cexpr_can",
        ),
        (["-r", "absent.yaml"], "no recipe file absent.yaml: give an existing .yaml file"),
        (["-r", "demo", "-o", "train.epoch=3"], "unknown key train.epoch; valid keys here:"),
        (["-r", "demo", "-o", "train.epochs"], "'train.epochs': expected section.key=value"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(command, arguments, message, capsys, empty_folder):
    assert call(command, *arguments) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("error: ") and message in found.err
    assert found.err.count("\n") == 1 and "Traceback" not in found.err
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("corpus.root=/no/such/folder", "corpus.root '/no/such/folder' is not a folder"),
        ("corpus.manifest=absent.csv", "no manifest at"),
        ("streams={}", "the recipe has no streams"),
    ],
)
def test_a_recipe_that_cannot_run_says_why(override, message, capsys, corpus):
    assert call("extract", "-r", str(corpus), "-o", override) == 2
    found = capsys.readouterr()
    assert message in found.err and "Traceback" not in found.err and found.out == ""


def test_an_unknown_option_is_exit_code_2(capsys):
    assert call("extract", "--recipe", "demo", "--fast") == 2
    assert "No such option: --fast" in capsys.readouterr().err


@pytest.mark.parametrize("command", STEPS)
def test_a_dry_run_shows_the_plan_and_touches_nothing(command, capsys, corpus, empty_folder):
    before = sorted(corpus.parent.rglob("*"))
    options = ["-r", str(corpus), "-o", "train.epochs=7", "-o", "predict.split=test", "--dry-run"]
    assert call(command, *options, "--out", str(empty_folder / "out"), "--json") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["recipe"]["train"]["epochs"] == 7 and plan["recipe"]["name"] == "mine"
    assert plan["out"] == str(empty_folder / "out")
    assert plan["steps"] == (list(PIPELINE) if command == "pipeline" else [command])
    assert {name: (s["wanted"], s["pending"]) for name, s in plan["stages"].items()} == {
        "tracks": (3, 3),
        "logmel": (3, 3),
    }
    assert call(command, *options) == 0
    text = capsys.readouterr().out
    assert yaml.safe_load(text)["out"] == str(empty_folder / "runs" / "mine")
    assert sorted(corpus.parent.rglob("*")) == before


def test_a_dry_run_of_the_demo_makes_no_corpus(capsys, empty_folder):
    assert call("demo", "--dry-run", "--json", "--out", "here") == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["steps"] == ["corpus", *PIPELINE]
    assert plan["out"] == str(empty_folder / "here")
    assert plan["recipe"]["corpus"]["root"] == str(empty_folder / "here" / "corpus")
    assert list(empty_folder.iterdir()) == []


def test_the_home_is_where_runs_go(capsys, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("ERRAY_HOME", str(tmp_path / "home"))
    assert call("train", "-r", str(corpus), "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["out"] == str(tmp_path / "home" / "mine")


def test_the_doctor_speaks_json(capsys, empty_folder):
    assert call("doctor", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    checks = {check["name"]: check["state"] for check in found["checks"]}
    assert {"python", "packages", "gpu", "decoder", "detector", "home", "disk"} <= set(checks)
    assert checks["decoder"] == "ok" and "failure" not in checks.values()
    assert list(empty_folder.iterdir()) == []


@pytest.mark.parametrize("job", ["extract", "train", "tune", "predict", "pipeline"])
@pytest.mark.parametrize("home", [None, "runs", "../elsewhere"])
def test_a_job_refuses_a_home_that_would_be_gone(job, home, capsys, monkeypatch, empty_folder):
    if home is not None:
        monkeypatch.setenv("ERRAY_HOME", home)
    monkeypatch.setattr(sys, "argv", [f"{job}.py", "-r", "demo"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(REPOSITORY / "jobs" / f"{job}.py"), run_name="__main__")
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert f"ERRAY_HOME is {home or ''!r}, a job needs an absolute folder" in error
    assert error.count("\n") == 1 and list(empty_folder.iterdir()) == []


def test_a_job_takes_the_arguments_of_its_command(capsys, corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("ERRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["tune.py", "-r", str(corpus), "--dry-run", "--json"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(REPOSITORY / "jobs" / "tune.py"), run_name="__main__")
    assert not caught.value.code
    assert json.loads(capsys.readouterr().out)["steps"] == ["tune"]


def test_help_waits_for_no_framework():
    """In a process of its own: nothing that takes seconds is imported."""
    code = (
        "import sys\nfrom erray.cli.main import main\n"
        "try:\n    main(['extract', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'ray', 'mlflow', 'optuna'} & set(sys.modules)), file=sys.stderr)"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("arguments", [["extract"], ["train"], ["report"], ["ablate"]])
def test_a_run_that_another_process_writes_is_refused_in_one_line(corpus, capsys, arguments):
    out = corpus.parent / "run"
    with holder(out) as process:
        assert call(*arguments, "-r", str(corpus), "--out", str(out)) == 2
        assert [path.name for path in out.iterdir()] == [".lock"]
        assert call(*arguments, "-r", str(corpus), "--out", str(out), "--dry-run") == 0
    (line,) = [text for text in capsys.readouterr().err.splitlines() if "error" in text]
    assert line.startswith(f"error: {out} is in use by ")
    assert f"process {process.pid} on " in line and "wait for it to end" in line


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"erray {erray.__version__}\n")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    assert "version" not in project["project"], "it stands in one place"
    place = project["tool"]["hatch"]["version"]["path"]
    assert f'__version__ = "{erray.__version__}"' in (REPOSITORY / place).read_text("utf-8")
