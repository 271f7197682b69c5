"""What a published config.yml becomes: every option of the published command is accounted for."""

import re
from pathlib import Path

import pytest

from erray.config import parse_recipe
from erray.errors import UserError
from erray.importing.config_file import LEFTOVERS, OPTIONS, read_config
from erray.importing.settings import leftovers, published_labels, split_of, train_settings
from erray.training.schedules import SCHEDULES, make_schedule
from tests.unit.importing.published_files import write_config

PAGE = Path(__file__).parents[3] / "docs" / "importing.md"


@pytest.fixture
def config(tmp_path):
    def write(**options):
        return read_config(write_config(tmp_path / "config.yml", **options))

    return write


def table_cells(heading):
    """Second cell of every row of the page's table, by each name in its first one."""
    table = PAGE.read_text("utf-8").split(f"| option | {heading} |\n")[1].split("\n\n")[0]
    rows = [line.strip("| ").split(" | ") for line in table.splitlines()[1:]]
    return {name: cell for names, cell in rows for name in re.findall(r"`(\w+)`", names)}


def test_the_page_has_every_option_with_its_reason():
    assert table_cells("becomes").keys() == OPTIONS.keys()
    assert table_cells("reason") == LEFTOVERS
    assert not OPTIONS.keys() & LEFTOVERS.keys()
    assert len(OPTIONS) + len(LEFTOVERS) == 63


def test_the_published_command_becomes_what_really_ran(config):
    published = config()
    train = parse_recipe({"train": train_settings(published)}).train
    assert train.optimiser.lr == 1e-3  # the file says 1e-4, which never reached the optimiser
    assert (train.optimiser.name, train.optimiser.nesterov) == ("sgd", True)
    assert (train.epochs, train.patience, train.batch_size) == (1000, 1000, 2)
    assert (train.window, train.hop, train.precision) == (300, 200, "float32")
    assert train.schedule.name == "mystep"
    assert train.schedule.options == {"gamma": 0.9, "step_size": 50, "min_lr": 1e-7}
    assert published_labels(published) == "basic7" and split_of(published) == "test"
    reasons = leftovers(published)
    assert set(reasons) == {"mode", "exp_id", "cudaid", "opt__lr", "dataset_path", "emotion"}
    assert "never reached the optimiser" in reasons["opt__lr"] and "0.001" in reasons["opt__lr"]
    assert "machine" in reasons["dataset_path"] and "another task" in reasons["emotion"]


@pytest.mark.parametrize(
    ("options", "read"),
    [
        ({"amp": True}, {"precision": "fp16"}),
        ({"train_p": 50, "valid_p": 10.5}, {"percent": {"train": 50.0, "val": 10.5}}),
        ({"window_length": 64, "hop_length": 32}, {"window": 64, "hop": 32}),
        ({"case_best_model": "FRAMES_AVG_PROBS"}, {"clip_rule": "mean_probabilities"}),
        (
            {"opt__name_optimizer": "ADAM", "opt__eps_adam": "1e-7", "opt__momentum": 0.5},
            {
                "optimiser": {
                    "name": "adam",
                    "lr": 1e-3,
                    "weight_decay": 1e-4,
                    "beta1": 0.9,
                    "beta2": 0.999,
                    "eps": 1e-7,
                    "amsgrad": False,
                }
            },
        ),
        ({"opt__lr_scheduler": False}, {"schedule": {"name": "constant"}}),
        (
            {"opt__name_lr_scheduler": "MULTISTEP", "opt__milestone": "10-20"},
            {"schedule": {"name": "multistep", "options": {"gamma": 0.9, "milestones": [10, 20]}}},
        ),
        (
            {"opt__name_lr_scheduler": "MULTISTEP", "opt__milestone": 0},
            {"schedule": {"name": "multistep", "options": {"gamma": 0.9, "milestones": [0]}}},
        ),
    ],
)
def test_an_option_becomes_its_key(config, options, read):
    settings = train_settings(config(**options))
    assert {key: settings[key] for key in read} == read
    parse_recipe({"train": settings})


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "constant"])
def test_every_published_schedule_is_one_of_erray(config, name):
    published = config(opt__name_lr_scheduler=name.upper())
    schedule = train_settings(published)["schedule"]
    made = make_schedule(schedule["name"], 1e-3, schedule["options"])
    assert made.lr(0) > 0
    said = leftovers(published).get("opt__name_lr_scheduler", "")
    assert ("did not work as published" in said) == (name not in ("step", "mystep"))


def test_options_of_another_optimiser_or_schedule_are_leftovers(config):
    adam = leftovers(config(opt__name_optimizer="ADAM", opt__momentum=0.5, opt__beta1=0.8))
    assert "opt__momentum" in adam and "opt__beta1" not in adam
    step = leftovers(config(opt__name_lr_scheduler="STEP", opt__min_lr=1e-7, opt__gamma=0.5))
    assert "opt__min_lr" in step and "opt__gamma" not in step
    warm = leftovers(config(opt__name_lr_scheduler="MYWARMUP", min_num_epochs=5, opt__gamma=0.5))
    assert "min_num_epochs" not in warm and "opt__gamma" in warm
    assert "had no effect" in leftovers(config(min_num_epochs=5))["min_num_epochs"]
    none = leftovers(config(opt__lr_scheduler=False))
    assert {"opt__name_lr_scheduler", "opt__gamma", "opt__step_size"} <= none.keys()
    assert "only LFAN read it" in leftovers(config(model_name="CAN", num_heads=2))["num_heads"]


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"dataset_name": "MELD", "use_other_class": True}, "basic7"),
        ({"dataset_name": "C-EXPR-DB"}, "cexpr7"),
        ({"dataset_name": "c_expr_db", "use_other_class": True}, "cexpr8"),
        ({"dataset_name": None}, None),
    ],
)
def test_labels_follow_the_corpus(config, options, labels):
    assert published_labels(config(**options)) == labels


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"lr": 0.1, "zoom": 3},
            r"unknown options lr, zoom: remove what did not shape.*model_name",
        ),
        ({"num_epochs": "many"}, "expected num_epochs of type int, found 'many'"),
        ({"num_epochs": True}, "expected num_epochs of type int, found True"),
        ({"amp": "yes please"}, "expected amp of type bool, found 'yes please'"),
        ({"opt__gamma": "small"}, "expected opt__gamma of type float, found 'small'"),
        ({"opt__milestone": "soon"}, "expected opt__milestone as epochs.*found 'soon'"),
        ({"opt__name_optimizer": "LION"}, "opt__name_optimizer to be one of SGD, ADAM, found 'LI"),
        ({"opt__name_lr_scheduler": "SLOW"}, "one of STEP, MYSTEP, .*MYWARMUP, found 'SLOW'"),
        ({"dataset_name": "AFEW"}, "dataset_name to be one of MELD, C-EXPR-DB, found 'AFEW'"),
        ({"case_best_model": "BEST"}, "case_best_model with one of LOGITS, .*found 'BEST'"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(config, options, message):
    options.setdefault("opt__name_lr_scheduler", "MULTISTEP")
    with pytest.raises(UserError, match=message) as info:
        published = config(**options)
        train_settings(published)
        published_labels(published)
    assert "\n" not in str(info.value) and "config.yml" in str(info.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected a mapping of options, found list"),
        ("a: [", "is not plain YAML"),
        ("seed: !!python/object/apply:os.getcwd []", "is not plain YAML"),
        ("\xff", None),
        (None, "no config at"),
    ],
)
def test_what_is_no_config_is_one_line(tmp_path, text, message):
    path = tmp_path / "config.yml"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=message or "is not plain YAML") as info:
        read_config(path)
    assert "\n" not in str(info.value)
