"""The sections of an extraction: media, faces, transcribe, extract."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from erray.config.section import Section


class Media(Section):
    """Limits of one medium; who passes one is rejected. See :class:`erray.media.MediaLimits`."""

    max_pixels: int = Field(4096 * 2304, ge=1, description="width times height of a frame")
    max_frames: int = Field(400_000, ge=1, description="frames of one clip")
    max_duration_s: float = Field(7200.0, gt=0, description="seconds of one clip")
    max_memory_mb: int = Field(1024, ge=128, description="memory that its decoder may take")
    stall_s: float = Field(60.0, gt=0, description="longest wait for the next frame")
    min_speed: float = Field(
        0.05, gt=0, description="seconds of a medium decoded per second of waiting, at least"
    )


class Faces(Section):
    min_face_px: int = Field(
        40, ge=12, description="smallest face that is looked for, in pixels of the searched frame"
    )
    confidence: float = Field(0.9, gt=0, lt=1, description="least score of a detection")
    stride: int = Field(
        5, ge=1, description="frames from one search to the next; 1: search every frame"
    )
    frame_side_px: int | None = Field(
        None, ge=64, description="search frames scaled down to this long side; null: as is"
    )
    max_gap_s: float = Field(
        0.4, ge=0, description="longest time that a face may be missed without ending its track"
    )
    bridge_iou: float = Field(
        0.5, gt=0, le=1, description="least overlap of its boxes before and after being missed"
    )
    # a tick waits for twice this: at 120 frames a second 60 of the 64 that are kept
    smooth_s: float = Field(
        0.06, ge=0, le=0.25, description="how far in time boxes are smoothed; 0: not at all"
    )
    crop_size_px: int = Field(112, ge=16, description="side of the aligned crop")
    jpeg_quality: int = Field(92, ge=1, le=95, description="quality of the stored crops")


class Transcribe(Section):
    model: str | None = Field(
        None, min_length=1, description="speech recogniser, by hub name or folder; null: none"
    )
    language: str | None = Field(
        None, min_length=2, description="code such as en; null: found for every clip"
    )
    beam_size: int = Field(5, ge=1, description="texts that are followed side by side")
    device: Literal["cpu", "cuda"] | None = Field(
        None, description="null: a GPU where there is one"
    )


class Pool(Section):
    num_workers: int | None = Field(None, ge=1, description="actors; null: one per free CPU")
    num_cpus: float = Field(1, gt=0, description="CPUs of one actor")
    num_gpus: float | None = Field(
        None, ge=0, description="GPUs of one actor; null: what the stage can use, if there is one"
    )


class Extract(Section):
    tables: str | None = Field(
        None, min_length=1, description="folder or fsspec URL of the tables; null: the run's folder"
    )
    shard_clips: int = Field(12, ge=1, le=512, description="clips per shard of a table")
    max_attempts: int = Field(3, ge=2, description="attempts at a clip whose worker's process ends")
    pools: dict[str, Pool] = Field(
        default_factory=dict, description="per stage: tracks, a stream's name, or predict"
    )
