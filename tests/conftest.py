"""Settings of all tests."""

from hypothesis import settings

# Time limits per example fail at random on a busy machine; pytest-timeout limits whole tests.
settings.register_profile("erray", deadline=None)
settings.load_profile("erray")
