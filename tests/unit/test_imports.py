"""The walls of the house: who may import whom, and which file knows which framework."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

# Lowest first. A room is a module or package of erray; it imports rooms of lower layers only.
LAYERS = (
    (
        "records",
        "labels",
        "config",
        "credentials",
        "errors",
        "finite",
        "interrupt",
        "options",
        "recipes",
    ),
    ("store", "media", "run_record", "hub", "feature_rows"),
    (
        "calibration",
        "corpora",
        "encoders",
        "faces",
        "metrics",
        "models",
        "pairs",
        "smoothing",
        "speech",
        "statistics",
        "windows",
    ),
    (
        "checkpoint",
        "clip_batches",
        "demo",
        "evaluation",
        "importing",
        "plan",
        "scoring",
        "stages",
        "submission",
        "timelines",
        "transcription",
    ),
    ("predictor", "registry", "rejects", "streaming", "ray_session"),
    ("extraction", "training", "predictions"),
    ("tuning",),
    ("report", "cluster"),
    ("flow",),
    ("cli",),
)
# The nouns are one vocabulary: a recipe checks its label set, a label set raises a UserError.
SIDEWAYS_LAYER = 0
PURE_LAYERS = 4  # these layers run in a plain Python shell, no framework is ever loaded

# Framework module to the files that may import it; the longest name that fits decides.
FRAMEWORKS = {
    "mlflow": ("registry/",),
    "optuna": ("tuning/",),
    "ray": (
        "streaming.py",
        "ray_session.py",
        "training/distributed.py",
        "training/fanout.py",
        "tuning/driver.py",
        "cluster/jobs.py",
    ),
    "ray.data": ("streaming.py",),
    "ray.train": ("training/distributed.py",),
    "ray.tune": ("tuning/driver.py",),
    "ray.job_submission": ("cluster/jobs.py",),
}
ABOVE = ("jobs", "tune_spaces")


def imported_names(source):
    """Every module or member that ``source`` imports, at its top or inside a function."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that they can be read"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def layer_of(room):
    return next((i for i, rooms in enumerate(LAYERS) if room in rooms), None)


def room_of(path):
    return path.split("/")[0].removesuffix(".py")


def broken_walls(path, source):
    """What is wrong with the imports of ``path`` (relative to erray/), as messages."""
    room = room_of(path)
    if room == "__init__":
        return [f"erray/__init__.py imports {name}" for name in sorted(imported_names(source))]
    layer = layer_of(room)
    if layer is None:
        return [f"erray/{path}: the room {room!r} is in no layer, add it to LAYERS"]
    problems = []
    for name in sorted(imported_names(source)):
        problems += _framework_problem(path, name)
        top, _, rest = name.partition(".")
        if top in ABOVE:
            problems.append(f"erray/{path} imports {name}: erray never imports {top}")
        target = rest.split(".")[0]
        if top != "erray" or target in {"", "__version__", room}:
            continue
        target_layer = layer_of(target)
        if target_layer is None:
            problems.append(f"erray/{path} imports {name}: {target!r} is in no layer")
        elif target_layer > layer or (target_layer == layer != SIDEWAYS_LAYER):
            way = "up" if target_layer > layer else "sideways"
            problems.append(f"erray/{path} imports {name}: {way}, from {room} to {target}")
    return problems


def _framework_problem(path, name):
    fitting = [f for f in FRAMEWORKS if name == f or name.startswith(f + ".")]
    if not fitting:
        return []
    framework = max(fitting, key=len)
    if any(path == p or (p.endswith("/") and path.startswith(p)) for p in FRAMEWORKS[framework]):
        return []
    return [f"erray/{path} imports {name}: {framework} belongs to {FRAMEWORKS[framework]}"]


def sources():
    folder = REPOSITORY / "erray"
    return {p.relative_to(folder).as_posix(): p.read_text("utf-8") for p in folder.rglob("*.py")}


def test_imports_only_point_down():
    problems = [p for path, source in sources().items() for p in broken_walls(path, source)]
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize(
    ("path", "source", "message"),
    [
        ("records.py", "import erray.store", "up, from records to store"),
        ("models/lfan.py", "from erray import training", "up, from models to training"),
        ("models/lfan.py", "def f():\n    from erray.metrics import confusion", "sideways"),
        ("metrics.py", "import mlflow.entities", "mlflow belongs to"),
        ("streaming.py", "from ray import train", "ray.train belongs to"),
        ("training/loop.py", "import ray", "ray belongs to"),
        ("extraction.py", "from ray.data import Dataset", "ray.data belongs to"),
        ("flow/tune.py", "import optuna", "optuna belongs to"),
        ("tuning/ledger.py", "from ray import tune", "ray.tune belongs to"),
        ("cli/steps.py", "from jobs import train", "never imports jobs"),
        ("helpers.py", "", "'helpers' is in no layer"),
        ("flow/tune.py", "from erray.helpers import x", "'helpers' is in no layer"),
        ("__init__.py", "import torch", "imports torch"),
    ],
)
def test_a_broken_wall_is_seen(path, source, message):
    problems = broken_walls(path, source)
    assert len(problems) == 1 and message in problems[0], problems


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("config.py", "from erray.labels import LABEL_SETS"),
        ("models/lfan.py", "from erray.models.blocks import TCN"),
        ("checkpoint.py", "from erray import __version__\nimport erray"),
        ("streaming.py", "import ray\nimport ray.data\nfrom ray.exceptions import RayError"),
        ("registry/runs.py", "from mlflow.entities import Metric"),
        ("cli/main.py", "import erray.flow.train"),
    ],
)
def test_what_is_allowed_passes(path, source):
    assert broken_walls(path, source) == []


def test_every_layer_holds_rooms_once():
    rooms = [room for layer in LAYERS for room in layer]
    assert len(rooms) == len(set(rooms))


def test_encoders_models_and_plans_load_without_a_framework():
    pure = {room for layer in LAYERS[:PURE_LAYERS] for room in layer}
    modules = sorted(
        "erray." + path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for path in sources()
        if room_of(path) in pure
    )
    assert {"erray.models.lfan", "erray.encoders.hog", "erray.windows"} <= set(modules)
    code = "import importlib, sys\nfor name in sys.argv[1:]:\n    importlib.import_module(name)\n"
    code += "print(*{m.split('.')[0] for m in sys.modules} & {'ray', 'mlflow', 'optuna'})"
    done = subprocess.run(
        [sys.executable, "-c", code, *modules],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == []
