"""The recipe of an imported model: made of its config, or given; what does not fit is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from erray.config import load_recipe, parse_recipe
from erray.errors import UserError
from erray.flow.import_model import write_recipe
from erray.importing import PublishedCheckpoint, imported_recipe, read_config
from tests.unit.importing.published_files import write_config

LFAN = PublishedCheckpoint(
    path=Path("/models/model.pt"),
    sha256="0123456789abcdef" * 4,
    model="lfan",
    streams={"ir50": 512, "vggish": 128, "bert": 768},
    options={"kernel_size": 5, "modal_dim": 32},
    num_classes=7,
    has_backbone=True,
    tensors={},
)


@pytest.fixture
def config(tmp_path):
    def write(**options):
        return read_config(write_config(tmp_path / "config.yml", **options))

    return write


def test_a_recipe_is_made_of_the_config(config):
    recipe = imported_recipe(config(seed=3), LFAN)
    assert (recipe.name, recipe.seed) == ("imported-lfan-01234567", 3)
    assert (recipe.corpus.kind, recipe.corpus.labels) == ("meld", "basic7")
    assert recipe.streams == {
        "ir50": {"weights": "/models/model.pt"},
        "vggish": {"align": "published"},
        "bert": {},
    }
    assert recipe.model.name == "lfan"
    expected = {"kernel_size": 5, "modal_dim": 32, "num_heads": 2, "leader": "ir50"}
    assert recipe.model.options == expected
    assert recipe.train.epochs == 1000 and recipe.train.optimiser.lr == 1e-3
    assert recipe.predict.split == "test"
    assert recipe.tracking.model_name == "imported-meld-lfan"


def test_compound_classes_take_the_published_folds(config):
    published = config(dataset_name="C-EXPR-DB", use_other_class=True, fold_to_run=2)
    recipe = imported_recipe(published, replace(LFAN, num_classes=8))
    corpus = recipe.corpus
    assert recipe.train.select.level == "frame"
    assert (corpus.kind, corpus.labels) == ("cexpr", "cexpr8")
    # grouped folds would test on clips that this model was trained on
    assert (corpus.protocol, corpus.fold) == ("published", 2)


def test_the_heads_come_from_the_config_as_no_tensor_shows_them(config):
    recipe = imported_recipe(config(num_heads=4), LFAN)
    assert recipe.model.options["num_heads"] == 4
    can = imported_recipe(config(model_name="CAN"), replace(LFAN, model="can", options={}))
    assert can.model.options == {}


def test_overrides_come_last(config):
    overrides = [
        "corpus.root=/data",
        "streams.ir50.weights=/weights/res50.pth",
        "model.options.dropout=0.3",
        "name=mine",
    ]
    recipe = imported_recipe(config(), LFAN, overrides=overrides)
    assert (recipe.name, recipe.corpus.root) == ("mine", "/data")
    assert recipe.streams["ir50"]["weights"] == "/weights/res50.pth"
    assert recipe.model.options["dropout"] == 0.3 and recipe.model.options["num_heads"] == 2


def test_an_option_of_the_model_can_be_another(config):
    options = {"fusion_axis": "published", "readout": "last"}
    jmt = replace(LFAN, model="jmt", options=options)
    published = config(model_name="JMT")
    assert imported_recipe(published, jmt).model.options == options
    recipe = imported_recipe(published, jmt, overrides=["model.options.fusion_axis=slots"])
    assert recipe.model.name == "jmt"
    assert recipe.model.options == options | {"fusion_axis": "slots"}


def test_without_the_backbone_the_weights_are_left_to_the_recipe(config):
    recipe = imported_recipe(config(), replace(LFAN, has_backbone=False))
    assert recipe.streams["ir50"] == {}


def test_a_given_recipe_keeps_its_own_settings(config, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "corpus: {kind: meld, root: /meld}\n"
        "streams: {hog: {}, bert: {}, vggish: {}, ir50: {views: 2}}\n"
        "train: {window: 64, hop: 32}\n"
        "tracking: {model_name: mine}\n"
    )
    recipe = imported_recipe(config(), LFAN, source=str(tmp_path / "mine.yaml"))
    assert (recipe.name, recipe.train.window, recipe.tracking.model_name) == ("mine", 64, "mine")
    assert recipe.streams["vggish"] == {} and next(iter(recipe.streams)) == "hog"
    assert recipe.streams["ir50"] == {"views": 2, "weights": "/models/model.pt"}
    # whatever the recipe's order, the model is led by its own first stream
    assert recipe.model.options["leader"] == "ir50"


def test_the_recipe_file_reads_back_the_same(config, tmp_path):
    recipe = imported_recipe(config(), LFAN, overrides=["corpus.root=/data"])
    path = write_recipe(recipe, tmp_path / "run" / "imported.yaml")
    assert load_recipe(str(path)) == recipe
    assert parse_recipe(recipe.model_dump()) == recipe
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"could not make .*file: .*name another place"):
        write_recipe(recipe, tmp_path / "file" / "imported.yaml")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model_name": "CAN"}, r"has model_name can, the tensors of .* are those of lfan"),
        ({"modality": "video+bert+EXPR_continuous_label"}, r"has modality ir50\+bert, .*vggish"),
        ({"modality": "bert+video+vggish"}, r"has modality bert\+ir50\+vggish, .*ir50\+vggish"),
        ({"modality": "video+mfcc+bert"}, r"no encoder for the published stream 'mfcc'.*vggish"),
        ({"modal_dim": 64}, "has modal_dim 64, the tensors of .* are those of 32"),
        ({"tcn_kernel_size": 3}, "has tcn_kernel_size 3, .* those of 5"),
        ({"dataset_name": None}, "has no dataset_name: give one of MELD, C-EXPR-DB, or a recipe"),
        (
            {"dataset_name": "C-EXPR-DB", "use_other_class": True},
            "has 7 classes, the label set cexpr8 has 8: set corpus.labels, or use_other_class",
        ),
    ],
)
def test_a_config_of_another_checkpoint_is_refused(config, options, message):
    with pytest.raises(UserError, match=message) as info:
        imported_recipe(config(**options), LFAN)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("streams: {ir50: {}, bert: {}}", "the recipe has no vggish: add them to its streams"),
        (
            "{streams: {ir50: {}, vggish: {}, bert: {}}, model: {name: mt}}",
            "holds a lfan, the recipe has model.name mt: remove the recipe's model",
        ),
        (
            "{streams: {ir50: {}, vggish: {}, bert: {}}, model: {options: {leader: bert}}}",
            "have leader ir50, the recipe has model.options.leader bert: remove it",
        ),
        (
            "{streams: {ir50: {}, vggish: {}, bert: {}}, model: {options: {num_heads: 4}}}",
            "have num_heads 2, the recipe has model.options.num_heads 4: remove it",
        ),
        (
            "{streams: {ir50: {}, vggish: {}, bert: {}}, corpus: {kind: cexpr}}",
            "has dataset_name MELD with labels basic7, the recipe's corpus has cexpr7",
        ),
    ],
)
def test_a_recipe_of_another_model_is_refused(config, tmp_path, recipe, message):
    (tmp_path / "other.yaml").write_text(recipe)
    with pytest.raises(UserError, match=message):
        imported_recipe(config(), LFAN, source=str(tmp_path / "other.yaml"))


def test_labels_that_the_recipe_names_stand(config, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "{streams: {ir50: {}, vggish: {}, bert: {}}, corpus: {labels: cexpr7}}"
    )
    recipe = imported_recipe(config(), LFAN, source=str(tmp_path / "mine.yaml"))
    assert recipe.corpus.label_set.name == "cexpr7"
