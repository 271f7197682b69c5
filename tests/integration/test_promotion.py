"""Versions, the rule by which an alias moves, and runs that wait for the store; a real sqlite."""

import json
import threading

import pytest
from mlflow import MlflowClient

from erray.cli.main import main
from erray.errors import UserError
from erray.evaluation.clips import LabelledClips
from erray.flow.outbox import Outbox
from erray.flow.promotion import VAL_TAG, compare_versions, promote, roll_back
from erray.flow.registry import describe, describe_run
from erray.records import PREDICTION_SCHEMA
from erray.registry import BACK, BETTER, FIRST, FORCED, Registry
from erray.store import Table
from erray.training.runs import TrainingRun
from tests.unit.evaluation.made_up import made_up_rows

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
    assert refused.move is None and "a p below 0.05 is asked for" in refused.why
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
    assert f"{found.a.value:.3f}" in why and f"p {found.difference.p_value:.3f}" in why
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


def test_a_run_sent_in_part_is_sent_anew_and_once(registry, tmp_path):
    run = TrainingRun(tmp_path / "training" / "fusion")
    run.model.mkdir(parents=True)
    (run.model / "model.json").write_text("{}")
    epochs = [{"epoch": i, "loss": 3.0 - i} for i in range(3)]
    (run.folder / "history.json").write_text(json.dumps({"job": "j", "epochs": epochs}))
    outbox = Outbox(tmp_path, registry)
    parent = registry.start_run("outbox")
    outbox.put(run, params={"seed": 1}, tags={"erray.job": "j"}, parent=parent)
    (entry,) = outbox.waiting()
    part = registry.start_run("fusion", parent=parent)
    registry.log_metrics(part, epochs[:2])
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"started": part}))
    outbox.send(parent)
    assert outbox.waiting() == []
    tracked = json.loads(run.tracking.read_text())
    client = MlflowClient(tracking_uri=registry.uri)
    whole = client.get_run(tracked["run_id"])
    below = client.search_runs(
        [whole.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
    )
    assert [r.info.run_id for r in below] == [whole.info.run_id]
    history = client.get_metric_history(whole.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(0, 3.0), (1, 2.0), (2, 1.0)]
    assert (whole.data.params["seed"], whole.info.status) == ("1", "FINISHED")
