"""``erray import`` in this process, as far as it goes without a registry."""

from __future__ import annotations

from pathlib import Path

import pytest

from erray.cli.import_model import predict_command, show_import
from erray.cli.main import main
from tests.unit.importing.published_files import all_tensors, cases, write_checkpoint, write_config

TENSORS = all_tensors(cases()["lfan_avt"])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a published run; no weights of encoders are on this machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("ERRAY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ERRAY_WEIGHTS", str(tmp_path / "weights"))
    write_checkpoint(tmp_path / "model.pt", TENSORS)
    write_config(tmp_path / "config.yml")
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the import; return its one line."""
    with pytest.raises(SystemExit) as caught:
        main(["import", *arguments])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.pt", "--config", "config.yml"], "no checkpoint at absent.pt: expected the model"),
        (
            ["model.pt", "--config", "absent.yml"],
            "no config at absent.yml: expected the config.yml",
        ),
        (["model.pt", "--config", "config.yml", "-r", "absent"], "no recipe named 'absent'"),
        (["model.pt", "--config", "config.yml", "-o", "train.x=1"], "unknown key train.x"),
        (
            ["model.pt", "--config", "config.yml", "--normaliser", "val"],
            "--normaliser val: expected none or train",
        ),
        (
            ["model.pt", "--config", "config.yml", "--alias", "latest", "--normaliser", "none"],
            "alias 'latest': expected",
        ),
    ],
)
def test_a_mistake_is_one_line(capsys, folder, arguments, message):
    assert message in refused(capsys, *arguments)
    assert not (folder / "home").exists()


def test_missing_weights_are_the_line_of_their_encoder(capsys, folder):
    line = refused(capsys, "model.pt", "--config", "config.yml", "--normaliser", "none")
    # no backbone in the checkpoint, and nothing says where else it is
    assert "streams.ir50.weights: expected the path of res50_ir_0.887.pth" in line
    write_checkpoint(folder / "whole.pt", TENSORS | {"spatial.visual.x": TENSORS["bn.bert.bias"]})
    line = refused(capsys, "whole.pt", "--config", "config.yml", "--normaliser", "none")
    assert "`erray weights fetch vggish`" in line


def test_what_is_shown_names_every_option_once(capsys):
    result = {
        "name": "mine",
        "version": "2",
        "alias": "champion",
        "model": "can",
        "streams": {"ir50": 512, "bert": 768},
        "classes": list("abcdefg"),
        "normaliser": "none",
        "not_taken": {"resume": "had no effect", "mode": "how", "verbose": "how"},
    }
    show_import(result, predict_command("a b/imported.yaml", Path("run")))
    registered, options, following = capsys.readouterr().out.strip().splitlines()
    assert "mine version 2 as champion: can over ir50 (512), bert (768), 7 classes" in registered
    assert options.endswith("resume (had no effect); mode, verbose (how)")
    assert following.split("  ")[1] == "erray predict -r 'a b/imported.yaml' --out run"
