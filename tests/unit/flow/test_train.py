"""What is told of a finished training run."""

import json

from erray.flow.train import chosen_epoch, summary
from erray.training.runs import TrainingRun


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
