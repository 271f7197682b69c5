"""Versions, the rule by which an alias moves, and runs that wait for the store; a real sqlite."""

import json
import threading
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from erray.cli.main import main
from erray.errors import UserError
from erray.evaluation.clips import LabelledClips
from erray.flow.context import FUSION
from erray.flow.outbox import Outbox
from erray.flow.promotion import VAL_TAG, compare_versions, promote, roll_back
from erray.flow.registry import describe, describe_run, register_step
from erray.flow.train import follow, keep, scored_splits
from erray.flow.version_folder import kept_rows
from erray.records import PREDICTION_SCHEMA
from erray.registry import BACK, BETTER, FIRST, FORCED, Registry, StoreAway
from erray.store import Table
from erray.training.events import EpochEnd
from erray.training.runs import TrainingRun, train_in_process
from tests.unit.evaluation.made_up import made_up_rows
from tests.unit.flow.test_holdout import make_flow

pytestmark = pytest.mark.integration

WEAK, GOOD, BEST = 0.0, 1.5, 4.0


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def registry(home):
    return Registry(home, experiment="tests")


@pytest.fixture
def register(registry, tmp_path):
    """Register a version of ``model`` whose predictions of a split have some skill."""

    def register(model, skill, *, seed=0, data="same", rows=None, parent=None, split="holdout"):
        folder = tmp_path / f"{model}-{skill}-{seed}-{data}-{split}"
        folder.mkdir()
        (folder / "model.json").write_text(json.dumps([model, skill, seed]))
        if rows is None:
            rows = made_up_rows(seed, skill=skill, split=split)
        if rows:
            Table(str(folder / f"{split}_predictions"), PREDICTION_SCHEMA).replace(rows)
        with registry.run(f"{model} {skill}", parent=parent) as run_id:
            return registry.register(run_id, folder, model_name=model, tags={VAL_TAG: data})

    return register


def champion(registry, model):
    found = registry.alias(model, "champion")
    return found and found.version


def decided(registry, version, **options):
    return promote(registry, version, "champion", metric="weighted_f1", **options)


def test_the_first_passes_and_then_only_what_is_better(registry, register):
    first, weak, best = (register("rule", skill) for skill in (GOOD, WEAK, BEST))
    assert champion(registry, "rule") is None
    assert decided(registry, first).move.how == FIRST
    refused = decided(registry, weak)
    assert refused.move is None and "promotion needs p below 0.05" in refused.why
    assert champion(registry, "rule") == first.version
    moved = decided(registry, best)
    assert (moved.move.how, moved.move.before) == (BETTER, first.version)
    assert champion(registry, "rule") == best.version
    assert decided(registry, best).why == "it has the alias already"
    assert [m.to for m in registry.moves("rule")] == [first.version, best.version]


def test_a_little_better_is_not_better(registry, register):
    # one more clip right of 60: higher, and no evidence
    rows = made_up_rows(3, skill=GOOD, split="holdout")
    wrong = next(i for i, row in enumerate(rows) if row["predicted"] != row["label"])
    clips = LabelledClips.from_rows(rows)
    right = clips.logits[wrong] * 0
    right[:, clips.label_N[wrong]] = 1
    better = [*rows]
    better[wrong] = {**rows[wrong], "logits": right.tobytes()}
    first = register("little", GOOD, rows=rows)
    second = register("little", GOOD, seed=1, rows=better)
    decided(registry, first)
    refused = decided(registry, second)
    assert refused.move is None and "difference +0.0" in refused.why
    assert champion(registry, "little") == first.version


def test_the_verdict_has_the_numbers_of_the_comparison(registry, register):
    a, b = register("numbers", BEST), register("numbers", WEAK)
    decided(registry, b)
    judged = compare_versions(registry, a, b, metrics=["weighted_f1"])
    found = judged.found.clips["weighted_f1"]
    why = decided(registry, a).why
    assert f"{found.a.value:.3f}" in why and "p < 0.001" in why
    assert f"numbers version {b.version} has {found.b.value:.3f}" in why


def test_without_a_holdout_only_the_first_is_promoted(registry, register):
    # as versions of before there was a holdout are, and those of a val too small for one
    first = register("optimistic", WEAK, split="val")
    best = register("optimistic", BEST, split="val")
    assert decided(registry, first).move.how == FIRST
    refused = decided(registry, best)
    assert refused.move is None and refused.why.startswith("optimistic: ")
    # one with a holdout is judged on it, though it chose the champion's epoch
    better = register("optimistic", BEST, seed=1)
    moved = decided(registry, better)
    assert moved.move.how == BETTER and "chose the epoch of optimistic version 1" in moved.why


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (
            "media",
            {"data": "other"},
            "media version 2 and media version 1 were validated on other data .fingerprints other",
        ),
        (
            "clips",
            {"rows": made_up_rows(0, skill=BEST, num_clips=57, split="holdout")},
            "clips version 2 and clips version 1 cover different labelled clips",
        ),
        ("empty", {"rows": []}, "empty version 2 keeps no predictions of val"),
    ],
)
def test_what_cannot_be_compared_is_not_promoted(registry, register, model, options, message):
    first, other = register(model, GOOD), register(model, BEST, seed=1, **options)
    decided(registry, first)
    refused = decided(registry, other)
    assert refused.move is None
    with pytest.raises(UserError, match=message):
        compare_versions(registry, other, first, metrics=["weighted_f1"])
    assert refused.why.startswith(f"it cannot be compared with {model} version 1: ")
    assert champion(registry, model) == "1"


def test_force_is_kept_with_who_when_and_why(registry, register, monkeypatch):
    monkeypatch.setenv("LOGNAME", "ada")
    first, weak = register("forced", BEST), register("forced", WEAK)
    decided(registry, first)
    decided(registry, weak, forced="a demonstration")
    client = MlflowClient(tracking_uri=registry.uri, registry_uri=registry.uri)
    tags = client.get_registered_model("forced").tags
    logged = [json.loads(tags[key]) for key in sorted(tags)][-1]
    assert (logged["who"], logged["how"], logged["to"]) == ("ada", FORCED, "2")
    assert logged["why"].startswith("a demonstration (weighted f1 on 60 holdout clips")
    assert logged["when"].endswith("+00:00")
    assert client.get_model_version_by_alias("forced", "champion").run_id == weak.run_id


def test_rollbacks_lead_further_back_and_pass_over_what_is_gone(registry, register):
    versions = [register("back", GOOD, seed=i) for i in range(4)]
    for version in versions:
        decided(registry, version, forced="in turn")
    client = MlflowClient(tracking_uri=registry.uri, registry_uri=registry.uri)
    client.delete_model_version("back", "2")
    for expected in ("3", "1"):
        move = roll_back(registry, "back", "champion", why="it was worse")
        assert (move.to, move.how, move.why) == (expected, BACK, "it was worse")
        assert champion(registry, "back") == expected
    with pytest.raises(UserError, match="nothing to roll back to"):
        roll_back(registry, "back", "champion", why="again")
    decided(registry, versions[3], forced="once more")
    assert roll_back(registry, "back", "champion", why="no").to == "1"


def test_promotions_at_once_are_decided_one_after_the_other(registry, register, home):
    first = register("race", WEAK)
    better = [register("race", BEST, seed=i) for i in range(3)]
    decided(registry, first)
    found = at_once([(Registry(home, experiment="tests"), version) for version in better])
    # equally good: whoever comes first wins, the others are compared with the winner
    assert sorted(decision.move is not None for decision in found) == [False, False, True]
    winner = next(decision for decision in found if decision.move)
    assert champion(registry, "race") == winner.version.version
    assert all(
        f"race version {winner.version.version} has" in decision.why
        for decision in found
        if not decision.move
    )
    assert [m.to for m in registry.moves("race")] == ["1", winner.version.version]


def test_promotions_from_two_machines_leave_an_existing_version(registry, register, tmp_path):
    # two homes do not share the lock, as two machines with one server do not
    first = register("far", WEAK)
    better = [register("far", BEST, seed=i) for i in range(3)]
    decided(registry, first)
    homes = [Registry(tmp_path / str(i), uri=registry.uri, experiment="tests") for i in range(3)]
    found = at_once(list(zip(homes, better, strict=True)))
    moved = {decision.version.version for decision in found if not isinstance(decision, str)}
    logged = [move.to for move in registry.moves("far")]
    assert champion(registry, "far") in {v.version for v in better} & set(logged)
    for refusal in (decision for decision in found if isinstance(decision, str)):
        assert "far@champion should name version" in refusal
    assert moved, "somebody wins"


def at_once(promotions):
    """Decisions of promotions in threads of their own, or the message of what was refused."""
    barrier, found = threading.Barrier(len(promotions)), []

    def run(registry, version):
        barrier.wait()
        try:
            found.append(decided(registry, version))
        except UserError as error:
            found.append(str(error))

    threads = [threading.Thread(target=run, args=pair) for pair in promotions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(promotions)
    return found


def test_lineage_leads_both_ways(registry, register):
    whole = registry.start_run("whole", tags={"erray.features.hog": "abc"})
    version = register("lineage", GOOD, parent=whole)
    decided(registry, version)
    found = describe(registry, registry.find("models:/lineage@champion"))
    assert found["run"]["name"] == f"lineage {GOOD}"
    assert found["parent_run"]["run_id"] == whole
    assert found["parent_run"]["tags"]["erray.features.hog"] == "abc"
    assert [move["to"] for move in found["moves"]] == [version.version]
    for run_id in (whole, version.run_id):
        (made,) = describe_run(registry, run_id)["versions"]
        assert (made["name"], made["aliases"]) == ("lineage", ("champion",))
    with pytest.raises(UserError, match="no run '0000'"):
        describe_run(registry, "0000")


def test_the_commands(registry, register, home, monkeypatch, capsys):
    monkeypatch.setenv("ERRAY_HOME", str(home))
    first, weak = register("commands", GOOD), register("commands", WEAK)

    def call(*arguments):
        try:
            main(["registry", *arguments])
        except SystemExit as end:
            return int(end.code or 0), capsys.readouterr()
        raise AssertionError("the command ends the process")

    assert call("promote", first.uri)[0] == 0
    code, said = call("promote", weak.uri)
    assert code == 2 and len(said.err.strip().splitlines()) == 1
    assert "not promoted to champion" in said.err and "--force --why REASON" in said.err
    code, said = call("promote", weak.uri, "--force")
    assert code == 2 and "go together" in said.err
    code, said = call("promote", weak.uri, "--force", "--why", "to see it", "--json")
    assert code == 0 and json.loads(said.out)["move"]["how"] == FORCED
    code, said = call("list", "commands", "--json")
    listed = json.loads(said.out)["versions"]
    assert [(v["version"], v["aliases"]) for v in listed] == [("1", []), ("2", ["champion"])]
    code, said = call("compare", first.uri, weak.uri, "--json")
    gap = json.loads(said.out)["clips"]["weighted_f1"]["difference"]
    assert gap["difference"] > 0 and gap["p_value"] < 0.05
    code, said = call("rollback", "commands", "--why", "seen")
    assert code == 0 and "version 1 is champion again, before version 2: seen" in said.out
    code, said = call("show", "models:/commands@champion")
    shown = " ".join(said.out.split())
    assert "to version 2 from version 1" in shown and "(back): seen" in shown
    code, said = call("show", f"runs:/{weak.run_id}")
    assert "models:/commands/2" in said.out
    code, said = call("show", "models:/commands/9")
    assert code == 2 and "no version 9; there are: 1, 2" in said.err


def test_without_a_store_the_commands_make_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("ERRAY_HOME", str(tmp_path))
    with pytest.raises(SystemExit) as end:
        main(["registry", "list"])
    assert end.value.code == 2 and "set ERRAY_HOME" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


EPOCHS = [{"epoch": i, "loss": 3.0 - i, "val_f1": [0.2, 0.9, 0.5, 0.4][i]} for i in range(4)]
TIMES_S = [1000.25, 1001.5, 1002.75, 1004.0]


class OftenAway(Registry):
    """A store that takes no new run while it is ``away``."""

    away = False

    def start_run(self, *arguments, **options):
        if self.away:
            raise StoreAway("the tracking store is away")
        return super().start_run(*arguments, **options)


def told(number):
    """The event of an epoch."""
    row = EPOCHS[number]
    return EpochEnd(
        run="fusion",
        epoch=number,
        num_epochs=4,
        loss=row["loss"],
        metric="val_f1",
        score=row["val_f1"],
        best=0.9,
        best_epoch=1,
        seconds=1.0,
        device="cpu",
        clips_per_s=1.0,
        time_s=TIMES_S[number],
        row=row,
    )


def finished_run(out):
    run = TrainingRun(out / "training" / "fusion")
    run.model.mkdir(parents=True)
    (run.model / "model.json").write_text("{}")
    history = {"job": "j", "epochs": EPOCHS, "best_epoch": 1}
    (run.folder / "history.json").write_text(json.dumps(history))
    return run


FACTS = {"params": {"seed": 1}, "tags": {"erray.job": "j"}}


def the_run(registry, run, parent):
    """The only run below the parent, as MLflow has it, and its series as (step, value, time)."""
    client = MlflowClient(tracking_uri=registry.uri)
    run_id = json.loads(run.tracking.read_text())["run_id"]
    whole = client.get_run(run_id)
    below = client.search_runs(
        [whole.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
    )
    assert [r.info.run_id for r in below] == [run_id]
    history = client.get_metric_history(run_id, "loss")
    return whole, [(m.step, m.value, m.timestamp) for m in history]


def test_epochs_arrive_as_they_end_over_outages_and_drivers_each_once(home, tmp_path):
    parent = Registry(home, experiment="tests").start_run("epochs")
    run, store = finished_run(tmp_path), OftenAway(home, experiment="tests")
    outbox = Outbox(tmp_path, store)
    outbox.begin(run, **FACTS, parent=parent)
    store.away = True
    outbox.epoch(run, told(0))
    store.away, outbox._next_try_s = False, 0.0
    outbox.epoch(run, told(1))
    client = MlflowClient(tracking_uri=store.uri)
    entry = next((tmp_path / "outbox").glob("*.json"))
    run_id = json.loads(entry.read_text())["started"]
    arrived = client.get_metric_history(run_id, "loss")
    assert [(m.step, m.timestamp) for m in arrived] == [(0, 1000250), (1, 1001500)]
    assert client.get_run(run_id).info.status == "RUNNING" and outbox.waiting() == []
    outbox.interrupt()
    assert client.get_run(run_id).info.status == "FAILED"

    # another driver goes on: epoch 1 is trained and told again, 3 is not told at all
    outbox = Outbox(tmp_path, Registry(home, experiment="tests"))
    outbox.begin(run, **FACTS, parent=parent)
    outbox.epoch(run, replace(told(1), time_s=5000.0))
    outbox.epoch(run, told(2))
    outbox.put(run, **FACTS, parent=parent)
    assert len(outbox.waiting()) == 1
    outbox.send(parent)
    assert list((tmp_path / "outbox").iterdir()) == []
    whole, series = the_run(store, run, parent)
    assert series[:3] == [(0, 3.0, 1000250), (1, 2.0, 1001500), (2, 1.0, 1002750)]
    assert len(series) == 4 and series[3][:2] == (3, 0.0)
    assert (whole.info.run_id, whole.info.status) == (run_id, "FINISHED")
    assert whole.data.params["seed"] == "1"
    # the last value of a series is the last epoch's: the chosen one has names of its own
    assert whole.data.metrics["val_f1"] == 0.4
    assert (whole.data.metrics["best_val_f1"], whole.data.metrics["best_epoch"]) == (0.9, 1)


def test_a_run_whose_sending_was_cut_off_is_completed_and_there_once(home, tmp_path, monkeypatch):
    registry = Registry(home, experiment="tests")
    parent, run = registry.start_run("cut off"), finished_run(tmp_path)
    outbox = Outbox(tmp_path, registry)
    outbox.put(run, **FACTS, parent=parent)

    def gone(*_):
        raise StoreAway("the tracking store is away")

    with monkeypatch.context() as patch, pytest.raises(StoreAway):
        patch.setattr(registry, "log_file", gone)
        outbox.send(parent)
    Outbox(tmp_path, Registry(home, experiment="tests")).send(parent)
    whole, series = the_run(registry, run, parent)
    assert [(step, value) for step, value, _ in series] == [(i, 3.0 - i) for i in range(4)]
    assert whole.info.status == "FINISHED"


def test_the_run_of_another_job_in_the_same_folder_ends(home, tmp_path):
    registry = Registry(home, experiment="tests")
    parent, run = registry.start_run("replaced"), finished_run(tmp_path)
    outbox = Outbox(tmp_path, registry)
    outbox.begin(run, params={}, tags={"erray.job": "older"}, parent=parent)
    outbox.epoch(run, told(0))
    entry = next((tmp_path / "outbox").glob("*.json"))
    older = json.loads(entry.read_text())["started"]
    outbox.begin(run, **FACTS, parent=parent)
    client = MlflowClient(tracking_uri=registry.uri)
    assert client.get_run(older).info.status == "FAILED"
    assert len(client.get_metric_history(older, "loss")) == 1
    outbox.epoch(run, told(0))
    assert json.loads(entry.read_text())["started"] not in (None, older)


def test_a_run_that_an_earlier_erray_sent_in_part_is_sent_anew_and_once(registry, tmp_path):
    run = finished_run(tmp_path)
    outbox = Outbox(tmp_path, registry)
    parent = registry.start_run("outbox")
    outbox.put(run, **FACTS, parent=parent)
    (path,) = outbox.waiting()
    part = registry.start_run("fusion", parent=parent)
    registry.log_metrics(part, EPOCHS[:2])
    entry = json.loads(path.read_text()) | {"started": part}
    del entry["done"]  # it kept no times
    path.write_text(json.dumps(entry))
    outbox.send(parent)
    assert outbox.waiting() == []
    whole, series = the_run(registry, run, parent)
    assert [(step, value) for step, value, _ in series] == [(i, 3.0 - i) for i in range(4)]
    assert (whole.data.params["seed"], whole.info.status) == ("1", "FINISHED")


def test_a_training_is_tracked_from_its_first_epoch_to_its_version(tmp_path):
    flow = make_flow(tmp_path / "films")
    job, run, arrived = flow.job(), flow.run(FUSION), []
    client = MlflowClient(tracking_uri=flow.registry.uri)
    with flow.step("train") as parent:
        tell = follow(flow, [(flow, job, run)], parent)
        (experiment,) = client.search_experiments(filter_string="name = 'erray'")

        def on_epoch(event):
            tell(event)
            below = f"tags.`mlflow.parentRunId` = '{parent}'"
            (child,) = client.search_runs([experiment.experiment_id], below)
            arrived.append((child.info.status, child.data.metrics["train_loss"], event.loss))

        state = train_in_process(job, run, on_epoch=on_epoch)
        keep(flow, run, job, state, scored_splits(flow), parent)
    assert arrived == [("RUNNING", loss, loss) for _, _, loss in arrived] and len(arrived) == 4
    model = register_step(flow)
    assert register_step(flow) == model, "what is registered is not registered again"

    whole = client.get_run(parent)
    assert whole.data.tags["erray.registered_run"] == FUSION == model["run"]
    assert whole.data.metrics["best_val_weighted_f1"] == run.history()["best_metric"]
    rows = [row for row in run.predictions.read().to_pylist() if row["split"] == "test"]
    right = sum(row["label"] == row["predicted"] for row in rows) / len(rows)
    assert whole.data.metrics["test.mean_logits.accuracy"] == right
    version = flow.registry.find("models:/erray@champion")
    kept = kept_rows(flow.registry.fetch(version.uri, tmp_path / "got").folder)
    assert {row["split"] for row in kept} == {"val", "holdout"}
