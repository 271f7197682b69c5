"""What is told of a finished training run."""

import json
from dataclasses import replace

from erray.flow.context import FUSION
from erray.flow.train import chosen_epoch, follow, summary
from erray.training.runs import TrainingRun
from tests.unit.flow.test_holdout import make_flow


def test_the_summary_is_of_the_epoch_that_frames_chose(tmp_path):
    epochs = [
        {"epoch": 0, "val_weighted_f1": 0.6, "val_frame_weighted_f1": 0.3},
        {"epoch": 1, "val_weighted_f1": 0.5, "val_frame_weighted_f1": 0.4},
        {"epoch": 2, "val_weighted_f1": 0.7, "val_frame_weighted_f1": 0.2},
    ]
    history = {
        "job": "0",
        "metric": "val_frame_weighted_f1",
        "epochs": epochs,
        "best_epoch": 1,
        "best_metric": 0.4,
    }
    run = TrainingRun(tmp_path)
    (tmp_path / "history.json").write_text(json.dumps(history))
    assert chosen_epoch(run) == epochs[1]
    assert summary(run) == {"val_weighted_f1": 0.5, "best_epoch": 1, "epochs": 3}


def test_a_result_of_another_job_is_said_to_be_replaced(tmp_path):
    said: list[str] = []
    flow = replace(make_flow(tmp_path / "films"), say=said.append)
    job, run = flow.job(), flow.run(FUSION)
    follow(flow, [(flow, job, run)], "parent")
    run.folder.mkdir(parents=True)
    for known, num_lines in ((job.fingerprint, 0), ("of another job", 1)):
        (run.folder / "history.json").write_text(json.dumps({"job": known}))
        follow(flow, [(flow, job, run)], "parent")
        assert len(said) == num_lines
    assert said[0].startswith("trained anew") and said[0].endswith(": fusion")
