"""MT: the multimodal transformer that JMT is compared with (arXiv 2403.10488): JMT without joint.

Every stream runs through an encoder layer over time; every ordered pair of streams gives a slot by
cross attention over time; the slots of a tick attend to each other, and their mean goes to the
head. ``erray.models.cross_attention`` has the parts.
"""

from __future__ import annotations

from erray.models.cross_attention import CrossAttentionModel


class MT(CrossAttentionModel):
    """See ``erray.models`` for the contract of ``forward``."""

    has_joint = False
