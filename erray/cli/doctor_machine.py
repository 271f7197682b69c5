"""What the doctor finds on this machine: packages, GPU, decoder, weights, home, disk."""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from erray.run_record import erray_home

OK, WARNING, FAILURE = "ok", "warning", "failure"
_SHOWN_PACKAGES = ("torch", "ray", "mlflow", "optuna", "av")
_LEAST_DISK_GB = 5.0
_LEAST_SHARED_MEMORY_GB = 0.5  # the object store of a Ray that a step starts here


@dataclass(frozen=True)
class Check:
    """One line of the doctor."""

    name: str
    state: str
    found: str
    advice: str = ""


def check_python() -> Check:
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", OK, found)


def check_packages(requirements: list[str] | None = None) -> Check:
    """Hold the installed packages against ``requirements``; None: those of erray itself."""
    wrong = []
    for text in requires("erray") or [] if requirements is None else requirements:
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(wanted.name)
        except PackageNotFoundError:
            wrong.append(f"{wanted.name} is missing")
            continue
        if not wanted.specifier.contains(there, prereleases=True):
            wrong.append(f"{wanted.name} {there}, expected {wanted.specifier}")
    if wrong:
        return Check("packages", FAILURE, "; ".join(wrong), "install the locked ones: make setup")
    return Check("packages", OK, ", ".join(f"{name} {version(name)}" for name in _SHOWN_PACKAGES))


def check_gpu() -> Check:
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        return Check("gpu", OK, ", ".join(names))
    if shutil.which("nvidia-smi") is not None:
        found = f"a driver, but not one that torch for CUDA {torch.version.cuda} can use"
        return Check("gpu", WARNING, found, "update the NVIDIA driver, or all runs on the CPU")
    return Check("gpu", WARNING, "none", "everything runs on the CPU, only slower")


def check_decoder() -> Check:
    import av

    wanted = ("h264", "hevc", "vp9", "aac", "opus")
    missing = [name for name in wanted if name not in av.codecs_available]
    if missing:
        return Check("decoder", FAILURE, f"no {', '.join(missing)}", "reinstall av: make setup")
    return Check("decoder", OK, f"FFmpeg {av.ffmpeg_version_info} in PyAV")


def check_detector() -> Check:
    from erray.faces.detect import mtcnn_weights_sha256

    return Check("detector", OK, f"MTCNN weights {mtcnn_weights_sha256()[:12]}")


def check_weights() -> Check:
    """Hash the pretrained weights that are there; missing ones stop only what reads them."""
    from erray.encoders.weights import ALTERED, MISSING, manifest, weights_dir

    states = {name: set(entry.states().values()) for name, entry in manifest().items()}
    altered = sorted(name for name, found in states.items() if ALTERED in found)
    there = sorted(name for name, found in states.items() if not found & {ALTERED, MISSING})
    if altered:
        found = f"{', '.join(altered)} in {weights_dir()} not as the manifest says"
        return Check("weights", FAILURE, found, "remove and fetch: erray weights fetch NAME")
    if not there:
        advice = "hog, logmel, prosody and hash need none; others: erray weights fetch NAME"
        return Check("weights", WARNING, f"none in {weights_dir()}", advice)
    return Check("weights", OK, f"{', '.join(there)} in {weights_dir()}")


def check_home() -> Check:
    home = erray_home()
    try:
        with tempfile.TemporaryFile(dir=_existing(home)):
            pass
    except OSError as error:
        return Check("home", FAILURE, f"{home}: {error.strerror}", "set ERRAY_HOME")
    return Check("home", OK, str(home))


def check_disk() -> Check:
    free_gb = shutil.disk_usage(_existing(erray_home())).free / 1e9
    shared = Path("/dev/shm")
    shared_gb = shutil.disk_usage(shared).total / 1e9 if shared.is_dir() else 0.0
    found = f"{free_gb:.0f} GB free for runs, {shared_gb:.1f} GB of shared memory"
    if free_gb < _LEAST_DISK_GB:
        advice = f"features and crops want {_LEAST_DISK_GB:.0f} GB and more"
        return Check("disk", WARNING, found, advice)
    if shared_gb < _LEAST_SHARED_MEMORY_GB:
        advice = "Ray falls back to slow files: give the container --shm-size=1g or more"
        return Check("disk", WARNING, found, advice)
    return Check("disk", OK, found)


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())
