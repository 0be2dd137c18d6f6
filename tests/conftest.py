"""For all tests: hypothesis does not time its examples, because machines that run tests are busy."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
