"""The journal: one driver at a time, and none of its lines spoilt by one that was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from erray.errors import UserError
from erray.tuning.storage import JOURNAL, open_study

NAME = "0123456789abcdef"


def test_a_second_driver_is_refused_and_the_next_one_is_not(tmp_path):
    with (
        open_study(NAME, folder=tmp_path, url=None),
        pytest.raises(UserError, match=r"another search writes .*study\.journal now: wait"),
        open_study("fedcba9876543210", folder=tmp_path, url=None),
    ):
        pass
    with open_study(NAME, folder=tmp_path, url=None) as study:
        assert study.study_name == NAME


def test_a_killed_driver_holds_nothing(tmp_path):
    code = (
        "import sys, time; from pathlib import Path; from erray.tuning.storage import open_study\n"
        f"with open_study('{NAME}', folder=Path(sys.argv[1]), url=None) as study:\n"
        "    study.ask(); print('open', flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None and driver.stdout.readline() == "open\n"
        with (
            pytest.raises(UserError, match="another search"),
            open_study(NAME, folder=tmp_path, url=None),
        ):
            pass
        os.kill(driver.pid, signal.SIGKILL)
    with open_study(NAME, folder=tmp_path, url=None) as study:
        assert [trial.state.name for trial in study.trials] == ["RUNNING"]


@pytest.mark.parametrize("half", [b'{"op_code":', b'{"op_code":4,"worker_id":"a"}', b"\xff"])
def test_half_a_line_of_a_killed_driver_costs_nothing(tmp_path, half):
    with open_study(NAME, folder=tmp_path, url=None) as study:
        study.ask()
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(half)
    for number in (1, 2):
        with open_study(NAME, folder=tmp_path, url=None) as study:
            study.ask()
            assert len(study.trials) == number + 1


def test_a_study_of_before_is_kept_and_the_search_says_that_it_begins_anew(tmp_path, caplog):
    with open_study("fedcba9876543210", folder=tmp_path, url=None) as study:
        study.tell(study.ask(), 0.5)
    assert caplog.text == ""
    with open_study(NAME, folder=tmp_path, url=None) as study:
        assert study.trials == []
        study.tell(study.ask(), 0.7)
    (record,) = caplog.records
    assert "holds 1 earlier study, made with other settings or another version" in record.message
    assert "kept, and a new one begins beside it" in record.message
    with open_study("fedcba9876543210", folder=tmp_path, url=None) as study:
        assert [trial.value for trial in study.trials] == [0.5]
    with open_study(NAME, folder=tmp_path, url=None) as study:
        assert [trial.value for trial in study.trials] == [0.7]
    assert len(caplog.records) == 1, "a search that goes on is no news"


def test_studies_of_one_file_are_apart(tmp_path):
    for name in (NAME, "fedcba9876543210"):
        with open_study(name, folder=tmp_path, url=None) as study:
            study.ask()
            assert len(study.trials) == 1


def test_a_database_that_is_away_is_one_line_without_the_password(tmp_path):
    pytest.importorskip("psycopg")
    url = "postgresql://me:secret@127.0.0.1:1/db"
    with pytest.raises(UserError) as raised, open_study(NAME, folder=tmp_path, url=url):
        pass
    message = str(raised.value)
    assert "secret" not in message and "\n" not in message
    assert message.startswith("tune.storage postgresql://***@127.0.0.1:1/db cannot be opened")


@pytest.mark.parametrize("url", ["postgresql://u:secret@h:abc/x", "postgresql://u:p@h:secret@h/x"])
def test_a_port_that_is_no_number_is_one_line_without_the_password(tmp_path, url):
    pytest.importorskip("psycopg")
    with (
        pytest.raises(UserError, match=r"tune\.storage postgresql://.* a number as port") as raised,
        open_study(NAME, folder=tmp_path, url=url),
    ):
        pass
    assert "secret" not in str(raised.value) and "\n" not in str(raised.value)
