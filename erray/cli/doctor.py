"""What this machine offers: versions, processors, decoder, weights, disk; what to do if not."""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import typer

from erray.cli.display import console, print_json
from erray.cli.options import JsonOption
from erray.run_record import erray_home

OK, WARNING, FAILURE = "ok", "warning", "failure"
_PACKAGES = ("torch", "torchvision", "torchaudio", "ray", "mlflow", "optuna", "av")
_LEAST_DISK_GB = 5


@dataclass(frozen=True)
class Check:
    """One line of the doctor."""

    name: str
    state: str
    found: str
    advice: str = ""


def doctor(as_json: JsonOption = False) -> None:
    """Check this machine: each line ok, warning or failure with what to do."""
    checks = [_python(), _packages(), _gpu(), _decoder(), _detector(), _home(), _disk()]
    if as_json:
        print_json({"checks": [asdict(check) for check in checks]})
    else:
        styles = {OK: "green", WARNING: "yellow", FAILURE: "red"}
        for check in checks:
            advice = f" [dim]- {check.advice}" if check.advice else ""
            style = styles[check.state]
            console.print(f"[{style}]{check.state:<8}[/] {check.name:<9} {check.found}{advice}")
    if any(check.state == FAILURE for check in checks):
        raise typer.Exit(1)


def _python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", OK, found)


def _packages() -> Check:
    return Check("packages", OK, ", ".join(f"{name} {version(name)}" for name in _PACKAGES))


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check("gpu", WARNING, "none", "everything runs on the CPU, only slower")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return Check("gpu", OK, ", ".join(names))


def _decoder() -> Check:
    import av

    missing = [name for name in ("h264", "hevc", "vp9", "aac", "opus") if not _has(av, name)]
    if missing:
        return Check("decoder", FAILURE, f"no {', '.join(missing)}", "reinstall av: make setup")
    return Check("decoder", OK, f"FFmpeg {av.ffmpeg_version_info} in PyAV")


def _has(av: object, name: str) -> bool:
    return name in av.codecs_available  # type: ignore[attr-defined]


def _detector() -> Check:
    from erray.faces.detect import mtcnn_weights_sha256

    return Check("detector", OK, f"MTCNN weights {mtcnn_weights_sha256()[:12]}")


def _home() -> Check:
    home = erray_home()
    existing = next(p for p in (home, *home.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        return Check("home", FAILURE, f"{home}: {error.strerror}", "set ERRAY_HOME")
    return Check("home", OK, str(home))


def _disk() -> Check:
    home = erray_home()
    existing = next(p for p in (home, *home.parents) if Path(p).exists())
    free_gb = shutil.disk_usage(existing).free / 1e9
    state = OK if free_gb >= _LEAST_DISK_GB else WARNING
    advice = "" if state == OK else f"features and crops want {_LEAST_DISK_GB} GB and more"
    return Check("disk", state, f"{free_gb:.0f} GB free", advice)
