"""``erray compare``: two training runs on the same clips."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from erray.cli.display import (
    p_value,
    paired,
    print_json,
    print_line,
    print_plainly,
    table,
    with_limits,
)
from erray.cli.options import JsonOption

MetricName = Literal["weighted_f1", "macro_f1", "accuracy"]
RuleName = Literal["majority", "mean_probabilities", "mean_logits"]

_RUN = "Folder of a training run, or of a whole run: its fusion."
FirstArgument = Annotated[Path, typer.Argument(metavar="RUN", help=_RUN)]
SecondArgument = Annotated[Path, typer.Argument(metavar="RUN", help=_RUN)]
SplitOption = Annotated[str, typer.Option(help="Split whose labelled clips are compared.")]
MetricOption = Annotated[MetricName | None, typer.Option(help="One score; left out: all three.")]
RuleOption = Annotated[
    RuleName | None, typer.Option(help="Clip rule of both; left out: each run's own.")
]
CommonOption = Annotated[
    bool, typer.Option("--common", help="Leave out the clips that only one of them covers.")
]

_NAMES = {"weighted_f1": "weighted F1", "macro_f1": "macro F1", "accuracy": "accuracy"}


def compare(
    first: FirstArgument,
    second: SecondArgument,
    split: SplitOption = "test",
    metric: MetricOption = None,
    rule: RuleOption = None,
    common: CommonOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two runs on the same clips: scores, paired differences, McNemar's test, classes."""
    from erray.flow.compare import compare_runs
    from erray.metrics import METRICS

    result = compare_runs(
        (first, second),
        split=split,
        metrics=[metric] if metric else list(METRICS),
        rule=rule,
        common=common,
    )
    show_comparison(result)
    if as_json:
        print_json(result)


def show_comparison(result: dict[str, Any]) -> None:
    """Scores side by side, McNemar's test, then the classes that differ most first."""
    for name, rule in zip("ab", result["rules"], strict=True):
        print_plainly(f"{name}: {result[name]} ({rule.replace('_', ' ')})")
    if any(result["left_out"]):
        a, b = result["left_out"]
        print_line(f"[yellow]left out: {a} clips that only a covers, {b} that only b covers")
    _show_scores(result, f"{result['split']}: ")
    _show_clips(result)
    if result["without_other"] is not None:
        _show_scores(result["without_other"], "Other ignored: ")
    classes = [
        [
            c["name"],
            str(c["support"]),
            *(f"{c['f1'][k]['value']:.3f}" for k in "ab"),
            paired(c["f1"]["difference"]),
            p_value(c["f1"]["difference"]["p_holm"]),
        ]
        for c in result["classes"]
    ]
    columns = ["F1 of a class", "clips", "a", "b", "a - b, 95 %", "p (Holm)"]
    table("Classes, most changed first", columns, classes)
    print_line(
        "[dim]p: answers of whole groups swapped; corrected for the number of classes, not for "
        "that of scores; intervals are not corrected"
    )


def _show_scores(result: dict[str, Any], title: str) -> None:
    for level in ("clips", "frames"):
        if result[level] is not None:
            rows = [
                [
                    _NAMES[name],
                    *(with_limits(row[k]) for k in "ab"),
                    paired(row["difference"]),
                    p_value(row["difference"]["p_value"]),
                ]
                for name, row in result[level].items()
            ]
            counts = f"{result['num_clips']} clips in {result['num_groups']} groups"
            of = counts if level == "clips" else f"frames of {counts}"
            columns = ["", "a, 95 %", "b, 95 %", "a - b, 95 %", "p"]
            table(f"{title}{of}", columns, rows)
    if "macro_f1" in result["clips"]:
        print_line(f"[dim]{result['macro_f1_rule']}")


def _show_clips(result: dict[str, Any]) -> None:
    test = result["mcnemar"]
    method = {"exact": "exact", "chi_square": "chi-square, corrected"}[test["method"]]
    print_line(
        f"both right {result['both_right']}, only a {test['only_a']}, "
        f"only b {test['only_b']}, both wrong {result['both_wrong']}; "
        f"same class {100 * result['agreement']:.1f} %"
    )
    print_line(f"McNemar p {p_value(test['p_value'])} ({method}; clips taken as independent)")
