"""JMT: the joint multimodal transformer (arXiv 2403.10488), for any number of streams.

A linear map of all streams is one more source, the joint. Every source runs through an encoder
layer over time; every ordered pair of streams, and of the joint and a stream, gives a slot by
cross attention over time; the slots of a tick attend to each other, and their mean goes to the
head. Published for two streams; ``erray.models.cross_attention`` has the parts.
"""

from __future__ import annotations

from erray.models.cross_attention import CrossAttentionModel


class JMT(CrossAttentionModel):
    """See ``erray.models`` for the contract of ``forward``."""

    has_joint = True
