from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from erray.errors import UserError
from erray.finite import NotFiniteError
from erray.labels import LABEL_SETS
from erray.records import PREDICTION_SCHEMA
from erray.report.build import build_report
from erray.report.card import (
    FORBIDDEN_USES,
    INTENDED_USES,
    SEARCHED_HOLDOUT,
    SEARCHED_TEST,
    SPLIT_MEANINGS,
)
from erray.scoring import rejected_row
from erray.store import Table
from erray.training.runs import TrainingRun
from tests.unit.report.conftest import Built
from tests.unit.report.made_up_run import HOSTILE, HOSTILE_GROUP, TEMPERATURES, make_run


class Page(HTMLParser):
    """What a browser would take from the page: tags, text, scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def ids(self) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get("id"))]


def test_metrics_json_is_what_was_returned(built: Built) -> None:
    written = json.loads((Path(built.run.out) / "report" / "metrics.json").read_text())
    assert written == json.loads(json.dumps(built.metrics))
    assert set(written["streams"]) == {"hog", "logmel", "hash"}
    assert written["model"] == {"name": "erray-demo", "version": "3"}
    assert written["clips"] == {"wanted": 65, "done": 63, "rejected": 2}
    assert written["seconds"]["train"] == 66.0


def test_only_test_rows_are_scored(built: Built) -> None:
    rows = [row for row in built.run.predictions["fusion"] if row["split"] == "test"]
    right = sum(row["label"] == row["predicted"] for row in rows)
    assert built.metrics["num_test_clips"] == len(rows) == 30
    assert built.metrics["fusion"]["mean_logits"]["accuracy"] == pytest.approx(right / len(rows))


def test_the_page_is_about_the_registered_run(built: Built) -> None:
    tuned = built.metrics["tuned"]["mean_logits"]["weighted_f1"]
    big = re.findall(r'class="big">([\d.]+)<', built.page)
    assert (
        big[0] == f"{tuned:.3f}" != f"{built.metrics['fusion']['mean_logits']['weighted_f1']:.3f}"
    )


def test_the_page_tells_the_calibration_of_the_registered_run(built: Built) -> None:
    found = built.metrics["scores"]["tuned"]["calibration"]
    assert found["temperature"] == TEMPERATURES["tuned"]
    section = re.search(r'<section id="calibration">(.*?)</section>', built.page, re.S)
    assert section is not None
    for key in ("error_before", "error_after", "loss_before", "loss_after"):
        assert f"<td>{found[key]:.3f}</td>" in section[1]
    marks = [b for key in ("before", "after") for b in found[f"bins_{key}"] if b["count"]]
    shown = re.findall(
        r'class="dot dot-bin-\w+" style="[^"]*width:([\d.]+)px[^"]*" title="(\d+)', section[1]
    )
    assert sorted(int(count) for _, count in shown) == sorted(b["count"] for b in marks)
    sizes = {float(size) for size, count in shown if int(count) == max(b["count"] for b in marks)}
    assert sizes == {max(float(size) for size, _ in shown)}
    assert "temperature 1.70" in section[1]
    assert "With Other ignored" not in built.page


def test_a_page_of_eight_classes_has_the_scores_with_other_ignored(tmp_path: Path) -> None:
    names = LABEL_SETS["cexpr8"].names
    run = make_run(
        tmp_path / "run",
        clips_per_split={"train": 8, "val": 8, "test": 24, "challenge": 1},
        overrides=["report.num_bootstrap=100", "corpus.kind=cexpr", "corpus.labels=cexpr8"],
        classes=names,
    )
    metrics = build_report(run.out, run.recipe)
    page = (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
    rest = metrics["scores"]["tuned"]["without_other"]
    assert (rest["num_clips"], len(rest["classes"])) == (21, 7)
    part = re.search(r"<h3>With Other ignored</h3>(.*?)</section>", page, re.S)
    assert part is not None and "7 classes, 21 clips" in re.sub(r"\s+", " ", part[1])
    for level in (*rest["clips"].values(), rest["frames"]):
        assert f"<strong>{level['metrics']['weighted_f1']['value']:.3f}</strong>" in part[1]


def test_the_page_asks_for_nothing(built: Built) -> None:
    for tag, attrs in Page(built.page).tags:
        for name in ("src", "href", "srcset", "poster", "data", "action"):
            value = attrs.get(name) or ""
            assert value.startswith(("data:", "#")) or not value, (tag, name, value[:80])
    style = re.search(r"<style>(.*?)</style>", built.page, re.S)
    assert style and "url(" not in style[1] and "@import" not in style[1]
    assert len(built.page) < 6_000_000


def test_only_the_pages_own_script_may_run(built: Built) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", built.page, re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in built.page
    assert not re.search(r"\son\w+=", built.page.replace(HOSTILE, ""))


def test_a_transcript_cannot_break_out(built: Built) -> None:
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", built.page, re.S)
    assert "window.broken" not in "".join(scripts)
    assert HOSTILE in "".join(Page(built.page).texts)


def test_every_section_is_there_with_unique_ids(built: Built) -> None:
    ids = Page(built.page).ids()
    wanted = {"rules", "fusion", "ablation", "classes", "parts", "calibration", "training"}
    wanted |= {"study", "timelines", "errors", "challenge", "quality", "card", "facts", "use"}
    assert wanted <= set(ids)
    assert len(ids) == len(set(ids))
    links = {a["href"] for tag, a in Page(built.page).tags if tag == "a" and a.get("href")}
    assert {link[1:] for link in links if link} <= set(ids)


def section(page: str, name: str) -> str:
    found = re.search(rf'<section id="{name}".*?>(.*?)</section>', page, re.S)
    assert found is not None, name
    return found[1]


def test_wrong_clips_have_faces_words_and_a_link_to_their_timeline(built: Built) -> None:
    rows = [r for r in built.run.predictions["tuned"] if r["split"] == "test"]
    wrong = [row for row in rows if row["label"] != row["predicted"]]
    wrong.sort(key=lambda row: -max(row["probabilities"]))
    part = section(built.page, "errors")
    cards = re.findall(r'<article class="wrong" aria-label="[^"]+">(.*?)</article>', part, re.S)
    assert f"{len(wrong)} of 30 test clips are wrong" in part
    assert len(cards) == min(len(wrong), 12) > 3
    timelines = set(re.findall(r'<article class="timeline" id="([^"]+)"', built.page))
    for row, card in zip(wrong, cards, strict=False):
        assert f"{row['clip_id']}, group" in card
        assert f"{100 * max(row['probabilities']):.0f}%" in card
        assert f"</i>{row['label']}</span>" in card and f"</i>{row['predicted']}</span>" in card
        assert card.count("<img") + card.count("noface") == 5
        clip = next(clip for clip in built.run.clips if clip.clip_id == row["clip_id"])
        assert (clip.transcript == HOSTILE) == ("He said" in card)
        link = "clip-" + hashlib.sha256(row["clip_id"].encode()).hexdigest()[:10]
        assert (link in timelines) == (f'href="#{link}"' in card)
    assert 'class="to-timeline"' in part


def test_the_card_says_on_whom_it_was_measured_and_what_is_forbidden(built: Built) -> None:
    card = re.sub(r"\s+", " ", section(built.page, "card"))
    clips = built.run.clips
    for split in ("train", "val", "test"):
        own = [clip for clip in clips if clip.split == split]
        groups = len({clip.group for clip in own})
        assert f"{len(own)} labelled clips of {groups} groups ({split})" in card
    for bold, text in FORBIDDEN_USES:
        assert bold in card and html.escape(text) in card
    assert "article 5(1)(f) of the EU AI Act" in card and all(u in card for u in INTENDED_USES)
    accuracy = built.metrics["scores"]["tuned"]["clips"]["mean_logits"]["metrics"]["accuracy"]
    assert f"Accuracy {accuracy['value']:.3f}" in card
    error = built.metrics["scores"]["tuned"]["calibration"]["error_after"]
    assert f"calibration error {error:.3f} at temperature 1.70" in card
    assert all(name in card for name in LABEL_SETS["cexpr7"].names)


def test_parts_of_the_page_are_those_of_the_json(built: Built) -> None:
    part = section(built.page, "parts")
    assert len(built.metrics["by_group"]) == 15
    for row in (*built.metrics["by_group"][:6], *built.metrics["by_length"]):
        assert f"<strong>{row['accuracy']['value']:.3f}</strong>" in part
    for row in built.metrics["by_group"]:
        assert html.escape(row["group"]) in part
    ablation = section(built.page, "ablation")
    assert ablation.count('role="rowheader"') == 7 and "hog + logmel + hash" in ablation


def test_hostile_groups_and_classes_are_text(tmp_path: Path) -> None:
    names = tuple(f"{i}<script>window.broken = 3</script>" for i in range(7))
    run = make_run(
        tmp_path / "run",
        clips_per_split={"train": 14, "val": 7, "test": 28, "challenge": 2},
        overrides=["report.num_bootstrap=100"],
        classes=names,
    )
    other = str(tmp_path / "run" / "training" / "hash")
    build_report(run.out, run.recipe, compare=other)
    page = (tmp_path / "run" / "report" / "index.html").read_text(encoding="utf-8")
    scripts = re.findall(r"<script[^>]*>(.*?)</script>", page, re.S)
    assert not any("window.broken = 3" in s for s in scripts if not s.startswith("{"))
    assert len(re.findall(r"<script>", page)) == 1
    texts = "".join(Page(page).texts)
    assert HOSTILE_GROUP in texts and names[0] in texts


def without_rows(folder: Path, name: str) -> None:
    shutil.rmtree(folder / "tables" / name)


def test_a_corpus_without_groups_rejects_faces_or_errors_has_its_page(
    built: Built, run_folder: Path
) -> None:
    for name in ("rejects", "crops", "tracks", "features"):
        without_rows(run_folder, name)
    (run_folder / "ablation.json").unlink()
    for path in (run_folder / "training").iterdir():
        table = Table(str(path / "predictions"), PREDICTION_SCHEMA)
        rows = table.read().to_pylist()
        for row in rows:
            row |= {"group": row["clip_id"], "predicted": row["label"]}
            logits = np.zeros((len(row["times_s"]), len(row["classes"])), np.float32)
            logits[:, row["classes"].index(row["label"])] = 3
            row |= {"logits": logits.tobytes(), "dtype": "<f4", "times_s": [0.0] * len(logits)}
        table.replace(rows)
    build_report(str(run_folder), built.run.recipe)
    page = re.sub(r"\s+", " ", (run_folder / "report" / "index.html").read_text("utf-8"))
    assert "All 30 test clips are right." in section(page, "errors")
    assert "Every test clip is a group of its own" in section(page, "parts")
    assert "Not by length" in section(page, "parts")
    assert "No clip was rejected." in section(page, "quality")
    assert "<code>erray ablate</code>" in section(page, "ablation")
    # nothing is left of faces: every done clip counts as one without
    assert "63 of 63 clips have none" in section(page, "quality")


def test_a_recipe_without_faces_says_so(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "run",
        clips_per_split={"train": 8, "val": 8, "test": 9},
        overrides=["report.num_bootstrap=100", "report.num_errors=0", "report.num_timelines=0"],
        classes=("only one",),
    )

    def quality_of(*streams: str) -> str:
        recipe = run.recipe.model_copy(update={"streams": {name: {} for name in streams}})
        build_report(run.out, recipe)
        page = (tmp_path / "run" / "report" / "index.html").read_text("utf-8")
        assert 'class="wrong"' not in page and "All 9 test clips are right." in page
        return re.sub(r"\s+", " ", section(page, "quality"))

    heard = quality_of("logmel", "hash")
    assert "No stream of this recipe reads faces." in heard and "main face <span" not in heard
    assert "logmel <span" in heard and "hash <span" in heard
    # by words alone a clip has another key, and nothing was extracted for it
    read = quality_of("hash")
    assert "No features in this folder: the coverage is not known." in read


def test_timelines_hold_faces_and_values(built: Built) -> None:
    blocks = re.findall(r'<script type="application/json">(.*?)</script>', built.page, re.S)
    assert len(blocks) == 12 + 4
    for block in blocks:
        data = json.loads(block)
        assert len(data["at"]) == len(data["times_s"]) == len(data["shares"])
        assert all(abs(sum(row) - 1000) <= 4 for row in data["shares"])
    assert built.page.count("data:image/jpeg;base64,") > 100
    assert built.page.count('class="noface"') > 0


def test_rejects_and_facts_are_told(built: Built) -> None:
    assert "no_video: the file has no video stream" in built.page
    assert "8b12774c0ffee" in built.page
    assert "65 in = 63 done + 2 rejected" in re.sub(r"\s+", " ", built.page)


def without_keys(value: object, *keys: str) -> object:
    if isinstance(value, dict):
        return {k: without_keys(v, *keys) for k, v in value.items() if k not in keys}
    return [without_keys(v, *keys) for v in value] if isinstance(value, list) else value


def test_tables_of_an_earlier_version_are_shown_without_a_verdict(
    built: Built, run_folder: Path
) -> None:
    """They hold p-values of a bootstrap and no numbers of groups."""
    for name, part in (("ablation.json", "ablation"), ("tune/study.json", "study")):
        path = run_folder / name
        found = json.loads(path.read_text("utf-8"))
        old = without_keys(found, "num_groups", "p_holm", "macro_f1_rule")
        path.write_text(json.dumps(old), encoding="utf-8")
        before = section(built.page, part)
        assert "earlier version of erray" not in before
    assert "worse than all" in section(built.page, "ablation")
    build_report(str(run_folder), built.run.recipe)
    page = (run_folder / "report" / "index.html").read_text("utf-8")
    for part in ("ablation", "study"):
        assert "An earlier version of erray made this table" in section(page, part)
    assert 'class="verdict' not in section(page, "ablation")
    assert "0.120" in section(built.page, "study") and "0.120" not in section(page, "study")


def test_two_groups_of_test_clips_decide_nothing_on_the_page(
    built: Built, run_folder: Path
) -> None:
    """Half of the runs' classes have no test clip either."""
    for path in (run_folder / "training").iterdir():
        table = Table(str(path / "predictions"), PREDICTION_SCHEMA)
        rows = [row for row in table.read().to_pylist() if row["label"] in row["classes"][:3]]
        table.replace([row | {"group": f"g{i % 2}"} for i, row in enumerate(rows)])
    other = str(run_folder / "training" / "hog")
    metrics = build_report(str(run_folder), built.run.recipe, compare=other)
    page = (run_folder / "report" / "index.html").read_text("utf-8")
    for part in ("rules", "fusion", "classes", "comparison", "card"):
        assert "undecided (2 groups)" in section(page, part) or part == "classes"
        assert "better" not in section(page, part) and "worse" not in section(page, part)
    rule = "macro F1 over the 3 of 7 classes that have labelled clips"
    assert metrics["macro_f1_rule"] == metrics["comparison"]["macro_f1_rule"] == rule
    for part in ("rules", "classes", "comparison", "card"):
        assert rule in re.sub(r"\s+", " ", section(page, part))
    assert rule in page.split('<section id="rules">')[0], "beside the large number"
    assert section(page, "classes").count("no test clips") == 4
    level = metrics["scores"]["tuned"]["clips"]["mean_logits"]
    challenge = level["metrics"]["challenge_f1"]["value"]
    assert challenge == pytest.approx(3 / 7 * level["metrics"]["macro_f1"]["value"])
    assert f"clips {challenge:.3f}, frames" in re.sub(r"\s+", " ", section(page, "rules"))
    assert metrics["intervals"]["tuned"]["mean_logits"]["accuracy"] == [None, None]
    assert metrics["fusion_minus_stream"]["hog"]["p_value"] is None


def test_the_same_run_gives_the_same_page(built: Built, run_folder: Path) -> None:
    build_report(str(run_folder), built.run.recipe)
    assert (run_folder / "report" / "index.html").read_text() == built.page


def test_what_is_missing_is_said_with_its_command(built: Built, run_folder: Path) -> None:
    shutil.rmtree(run_folder / "tune")
    shutil.rmtree(run_folder / "training" / "tuned")
    shutil.rmtree(run_folder / "predictions")
    for name in ("hog", "logmel", "hash"):
        shutil.rmtree(run_folder / "training" / name)
    (run_folder / "training" / "fusion" / "history.json").unlink()
    shutil.rmtree(run_folder / "training" / "fusion" / "model")
    (run_folder / "run.json").unlink()
    metrics = build_report(str(run_folder), built.run.recipe)
    page = (run_folder / "report" / "index.html").read_text()
    assert metrics["streams"] == {}
    assert metrics["model"] is None
    assert "<code>erray tune</code>" in page
    assert page.count("<code>erray train</code>") == 2
    assert 'id="challenge"' not in page
    assert "not registered" in page
    assert "The model's temperature is 1" in re.sub(r"\s+", " ", page)


def change_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes))


def test_a_search_of_another_recipe_is_left_out(built: Built, run_folder: Path) -> None:
    change_json(run_folder / "training" / "fusion" / "history.json", job="another")
    metrics = build_report(str(run_folder), built.run.recipe)
    page = (run_folder / "report" / "index.html").read_text()
    assert set(metrics["scores"]) == {"fusion"} < set(built.metrics["scores"])
    assert "not registered: lfan, the fusion run of recipe" in page
    assert "the fusion run of recipe" not in built.page and "the tuned run of recipe" in built.page
    assert "<code>erray tune</code>" in page and "<code>erray tune</code>" not in built.page


def test_a_tuned_run_that_the_search_does_not_know_is_left_out(
    built: Built, run_folder: Path
) -> None:
    change_json(run_folder / "training" / "tuned" / "history.json", job="another")
    metrics = build_report(str(run_folder), built.run.recipe)
    assert set(metrics["scores"]) == {"fusion"}
    assert "judged by" in (run_folder / "report" / "index.html").read_text()


@pytest.mark.parametrize("searched", [False, True])
def test_the_page_of_a_run_with_a_holdout_says_what_it_was_for(
    tmp_path: Path, searched: bool
) -> None:
    counts = {"train": 10, "val": 8, "holdout": 6, "test": 8}
    overrides = ["report.num_bootstrap=100", "corpus.labels=null"]
    run = make_run(tmp_path, clips_per_split=counts, overrides=overrides)
    change_json(tmp_path / "tune" / "study.json", holdout_was_searched=searched)
    build_report(run.out, run.recipe)
    page = " ".join((tmp_path / "report" / "index.html").read_text().split())
    meaning = SEARCHED_HOLDOUT if searched else SPLIT_MEANINGS["holdout"]
    assert "7 (cexpr7): " in page, "the recipe leaves corpus.labels to the kind"
    assert (
        f"<dt>Compared on</dt> <dd>6 labelled clips of 3 groups (holdout); {meaning}</dd>" in page
    )


@pytest.mark.parametrize("main", ["tuned", "fusion"])
def test_a_test_split_that_was_searched_is_not_called_unseen(
    built: Built, run_folder: Path, main: str
) -> None:
    path = run_folder / "tune" / "study.json"
    against = json.loads(path.read_text("utf-8"))["against_recipe"]
    change_json(path, against_recipe=against | {"test_was_searched": True})
    change_json(run_folder / "run.json", model={"name": "m", "version": "1", "run": main})
    build_report(str(run_folder), built.run.recipe)
    page = (run_folder / "report" / "index.html").read_text()
    unseen, seen = SPLIT_MEANINGS["test"], SEARCHED_TEST
    assert (seen in page, unseen in page) == ((True, False) if main == "tuned" else (False, True))
    lede = "no choice of this run has seen"
    assert lede in built.page and (lede in page) == (main == "fusion")
    assert "it cannot load the test split" not in page and "it ran over folds" in page
    assert "it cannot load the test split" in built.page and unseen in built.page


def test_no_test_predictions_names_the_command(built: Built, run_folder: Path) -> None:
    shutil.rmtree(run_folder / "training" / "fusion" / "predictions")
    before = (run_folder / "report" / "index.html").read_text()
    with pytest.raises(UserError, match="erray train") as caught:
        build_report(str(run_folder), built.run.recipe)
    assert "\n" not in str(caught.value)
    assert (run_folder / "report" / "index.html").read_text() == before


def test_runs_over_other_clips_are_refused(built: Built, run_folder: Path) -> None:
    table = Table(str(run_folder / "training" / "hog" / "predictions"), PREDICTION_SCHEMA)
    rows = table.read()
    table.replace(rows.slice(0, rows.num_rows - 1))
    with pytest.raises(UserError, match="training/hog predicts 29 test clips"):
        build_report(str(run_folder), built.run.recipe)


def test_a_run_of_an_older_recipe_is_not_shown(built: Built, run_folder: Path) -> None:
    recipe = built.run.recipe.model_copy(update={"streams": {"hog": {}, "hash": {}}})
    shutil.rmtree(run_folder / "training" / "logmel" / "predictions")
    assert set(build_report(str(run_folder), recipe)["streams"]) == {"hog", "hash"}


def test_a_report_leaves_no_temporary_file(built: Built) -> None:
    names = {path.name for path in (Path(built.run.out) / "report").iterdir()}
    assert names == {"index.html", "metrics.json"}


def reject(run: TrainingRun, clip_id: str) -> None:
    """Take a clip's prediction away, as if its logits had not been finite."""
    rows = run.predictions.read().to_pylist()
    run.predictions.replace([row for row in rows if row["clip_id"] != clip_id])
    why = NotFiniteError("not_finite: logits of 1 of 1 ticks")
    row = rejected_row(why, clip_id=clip_id, model_name=run.name, model_version="0")
    run.rejects.replace([row])


def test_a_test_clip_that_one_run_rejected_is_in_no_score_and_named(
    built: Built, run_folder: Path
) -> None:
    rows = [row for row in built.run.predictions["tuned"] if row["split"] == "test"]
    clip_id = rows[5]["clip_id"]
    reject(TrainingRun(run_folder / "training" / "hog"), clip_id)
    metrics = build_report(str(run_folder), built.run.recipe)
    assert metrics["num_test_clips"] == 29
    assert list(metrics["rejected"]) == [clip_id] and built.metrics["rejected"] == {}
    right = [row["label"] == row["predicted"] for row in rows if row["clip_id"] != clip_id]
    found = metrics["tuned"]["mean_logits"]["accuracy"]
    assert found == pytest.approx(sum(right) / 29)
    page = (run_folder / "report" / "index.html").read_text("utf-8")
    assert 'class="about left-out"' in page and 'class="about left-out"' not in built.page
    assert re.search(rf"<th scope=\"row\">{clip_id}</th><td>predict</td><td>not_finite: ", page)
    versus = build_report(built.run.out, built.run.recipe, compare=str(run_folder))["comparison"]
    assert versus["num_clips"] == 30, "the other run's registered one has all of them"
    hog = str(run_folder / "training" / "hog")
    versus = build_report(built.run.out, built.run.recipe, compare=hog)["comparison"]
    assert versus["num_clips"] == 29


def test_a_row_that_is_not_finite_is_no_class_of_the_page(built: Built, run_folder: Path) -> None:
    run = TrainingRun(run_folder / "training" / "tuned")
    rows = run.predictions.read().to_pylist()
    place = next(i for i, row in enumerate(rows) if row["split"] == "test")
    rows[place]["logits"] = np.full(rows[place]["shape"], np.nan, np.float32).tobytes()
    run.predictions.replace(rows)
    with pytest.raises(UserError, match=f"clip '{rows[place]['clip_id']}' was predicted by"):
        build_report(str(run_folder), built.run.recipe)


def test_the_scores_of_every_fused_run_are_there_and_the_registered_one_is_marked(
    built: Built, run_folder: Path
) -> None:
    section = built.page.split('<section id="rules">')[1].split("</section>")[0]
    first, second = re.split("<h3>Fusion", section)
    assert "<h3>Tuned <span" in first and ">registered</span>" in first
    assert "registered" not in second and "used for this page" not in second
    for part, run in ((first, "tuned"), (second, "fusion")):
        for scores in built.metrics[run].values():
            assert f"<strong>{scores['weighted_f1']:.3f}</strong>" in part
    assert built.metrics["registered_run"] == "tuned"
    shutil.rmtree(run_folder / "training" / "tuned")
    alone = build_report(str(run_folder), built.run.recipe)
    assert alone["registered_run"] is None, "the registered run is not in the folder"
