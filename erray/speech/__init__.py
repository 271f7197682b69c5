"""Speech to words with their times, for clips whose corpus knows neither."""

from erray.speech.align import timed_words
from erray.speech.whisper import Recognition, WhisperConfig, WhisperRecogniser

__all__ = ["Recognition", "WhisperConfig", "WhisperRecogniser", "timed_words"]
