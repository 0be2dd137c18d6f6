"""Errors that a command expects: wrong input, which the user can correct, and a store that does not answer."""

from controller.experiment.errors import SpecError
from workloads.benchmarks.model import BenchmarkError
from workloads.data.files import BadData
from workloads.registry import RegistryError
from workloads.storage.base import StoreError
from workloads.storage.content_digest import ContentError
from workloads.storage.markers import Corrupt
from workloads.text.templates import BadTemplate
from workloads.text.tokenizer import BadTokenizer

WRONG_INPUT = (SpecError, ContentError, BadData, BadTemplate, BadTokenizer, BenchmarkError, RegistryError)
"""After these errors the command exits with 2; the message says what to change."""

STORE_ERRORS = (StoreError, Corrupt)
"""After these errors the command exits with 4, because the store did not answer."""
