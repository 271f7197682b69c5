"""Results of the steps as a person reads them."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.text import Text

from erray.cli.display import (
    p_value,
    paired,
    print_hanging,
    print_line,
    print_plainly,
    table,
    with_limits,
)
from erray.cli.training_progress import metric_words

_WORST_REASONS = 6
LEFT_OUT = "are left out of every score"


def show_extraction(result: dict[str, Any]) -> None:
    """Counts of clips; what was computed; the reasons of rejects."""
    computed = sum(result["computed"].values())
    print_line(
        f"[bold]{result['wanted']}[/] clips = [bold]{result['done']}[/] done + "
        f"[bold]{result['rejected']}[/] rejected"
        + ("" if computed else " [dim](nothing was left to do)")
    )
    for code, count in list(result["reasons"].items())[:_WORST_REASONS]:
        print_line(f"  [red]{count:>5} {code}[/]  for instance {escape(result['examples'][code])}")
    if len(result["reasons"]) > _WORST_REASONS:
        print_line("  [red]  ... and other reasons")
    if result["rejected"]:
        print_line("  [dim]every one of them: tables/rejects in the folder of the run")


def show_transcription(result: dict[str, Any]) -> None:
    """Counts of clips that want words."""
    known = result["wanted"] - result["written"] - result["unreadable"]
    print_line(
        f"[bold]{result['wanted']}[/] clips want words: [bold]{result['written']}[/] transcribed, "
        f"{known} were before, {result['unreadable']} have media that cannot be read"
    )


def show_runs(runs: dict[str, Any]) -> None:
    """Best val score of every training run."""
    rows = [
        [name, f"{r['val_weighted_f1']:.3f}", str(r["best_epoch"]), str(r["epochs"])]
        for name, r in runs.items()
    ]
    table("Training", ["run", "val weighted F1", "best epoch", "epochs"], rows)


def show_model(model: dict[str, Any]) -> None:
    """The registered version."""
    print_line(
        f"Registered [bold]{model['name']}[/] version [bold]{model['version']}[/] ({model['run']})"
    )


def show_training(result: dict[str, Any]) -> None:
    """Runs and the registered model."""
    show_runs(result["runs"])
    show_model(result["model"])


def show_study(result: dict[str, Any]) -> None:
    """Trials, the best settings, and how they trained at full length."""
    trials, best = result["trials"], dict(result["best"])
    counts = ", ".join(f"{count} {state}" for state, count in trials.items() if count)
    number = best.pop("number")
    settings = ", ".join(f"{key.split('.', 1)[1]}={_short(v)}" for key, v in best.items())
    print_hanging(Text("Study: "), f"{counts}; best is trial {number}: {settings}")
    show_runs({"tuned": result["tuned"]})
    if result["against_recipe"] is not None:
        _show_contest(result["against_recipe"])
    if "model" in result:
        show_model(result["model"])


def show_prediction(result: dict[str, Any]) -> None:
    """How many clips of which class; the submission file."""
    model = result["model"]
    rule = result["pair_rule"]
    pairs = f"; compound classes by the {rule} of two basic ones" if rule else ""
    print_line(
        f"Predicted {result['clips']} clips with {model['name']} version {model['version']}{pairs}"
    )
    show_rejected(result["rejected"], "have no prediction")
    if "timelines" in result:
        print_plainly(f"Timelines: {result['timelines']}")
    if "submission" in result:
        file = result["submission"]
        held = f", {file['held']} of them held from the frame before" if file["held"] else ""
        print_plainly(
            f"Submission with {file['rows']} frames{held}, checked against the list: {file['path']}"
        )


def show_report(result: dict[str, Any]) -> None:
    """Test scores of the fusion, of the tuned model and of each stream; who is registered."""
    rules = {
        f"{run}{'*' if run == result['registered_run'] else ''}, {rule.replace('_', ' ')}": scores
        for run in ("fusion", "tuned")
        for rule, scores in result.get(run, {}).items()
    }
    rows = [
        [name, *(f"{scores[k]:.3f}" for k in ("weighted_f1", "macro_f1", "accuracy"))]
        for name, scores in {**rules, **result["streams"]}.items()
    ]
    table("Test scores", ["", "weighted F1", "macro F1", "accuracy"], rows)
    if result["registered_run"] is not None:
        model = result["model"]
        print_line(f"[dim]* registered as {escape(model['name'])} version {model['version']}")
    print_line(f"[dim]{result['macro_f1_rule']}")
    show_rejected(result["rejected"], LEFT_OUT)
    versus = result["comparison"]
    if versus is not None:
        gap = versus["clips"]["weighted_f1"]["difference"]
        p = "" if gap["p_value"] is None else f", p {p_value(gap['p_value'])}"
        print_plainly(f"Against {versus['b']}:\n  weighted F1 {paired(gap)}{p}")


def show_rejected(rejected: dict[str, str], what: str) -> None:
    """How many clips were rejected, the first of them with their reasons; nothing for none."""
    if rejected:
        print_line(f"[red]{len(rejected)} rejected clips[/] {what}:")
    for clip_id, why in list(rejected.items())[:_WORST_REASONS]:
        print_plainly(f"  {clip_id}: {why}")
    if len(rejected) > _WORST_REASONS:
        print_line("  ... and others")


def show_ablation(result: dict[str, Any]) -> None:
    """A row per subset of streams."""
    rows = []
    for row in result["subsets"]:
        gap = row["minus_all"] and row["minus_all"]["weighted_f1"]
        rows.append(
            [
                row["streams"],
                with_limits(row["weighted_f1"]),
                *(["", ""] if gap is None else [paired(gap), p_value(gap["p_holm"])]),
                f"{row['macro_f1']['value']:.3f}",
                f"{row['val']['value']:.3f}",
            ]
        )
    first = result["subsets"][0]
    title = f"Ablation: {first['clips']} test clips; val: {first['val']['metric']}"
    columns = ["streams", "weighted F1, 95 %", "minus all, 95 %", "p (Holm)", "macro F1", "val"]
    table(title, columns, rows)
    print_line(
        f"[dim]{result['macro_f1_rule']}; p corrected for the number of subsets, intervals not"
    )
    show_rejected(result["rejected"], LEFT_OUT)


def _show_contest(against: dict[str, Any]) -> None:
    rows = [
        [
            metric_words(metric),
            *(with_limits(found[side]) for side in sides),
            paired(found["difference"]),
            p_value(found["difference"]["p_value"]),
        ]
        for sides in [("tuned", "recipe")]
        for metric, found in against["scores"]["clip"].items()
    ]
    seeds = ", ".join(map(str, against["seeds"]))
    title = f"Best settings against the recipe's own: test clips, seeds {seeds}"
    table(title, ["", "tuned, 95 %", "recipe, 95 %", "difference, 95 %", "p"], rows)
    print_line(f"[dim]{against['macro_f1_rule']}; p not corrected for the number of scores")
    show_rejected(against["rejected"], LEFT_OUT)
    if against["test_was_searched"]:
        print_line(
            "[dim]clips of test were val of other folds: the difference is too kind to the search"
        )


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
