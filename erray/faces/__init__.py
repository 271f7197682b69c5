"""Faces of a video: detect, link over time, align; all pure but the detector."""
