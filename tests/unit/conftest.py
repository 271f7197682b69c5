"""Settings of the unit tests."""

import os

# One thread per process: tiny models gain nothing from more, and several processes test at once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
