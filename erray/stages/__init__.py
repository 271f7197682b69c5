"""The workers of an extraction: plain classes that turn a batch of clips into written shards.

A worker is made once per actor and called on batches of clip rows. It writes its own shards
(data first, status last: the status shard is what makes a batch count) and returns the status
rows. It knows nothing of Ray and runs as well in a plain shell.
"""

from erray.stages.encode import EncodeStage
from erray.stages.tracks import TracksStage

__all__ = ["EncodeStage", "TracksStage"]
