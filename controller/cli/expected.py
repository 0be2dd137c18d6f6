"""Errors that a command expects: what the person can correct, and a store that cannot answer."""

from controller.spec.errors import SpecError
from workloads.benchmarks import BenchmarkError
from workloads.commit import Corrupt
from workloads.contents import ContentError
from workloads.data.files import BadData
from workloads.store import StoreError
from workloads.text.templates import BadTemplate
from workloads.text.tokenizer import BadTokenizer

WRONG_INPUT = (SpecError, ContentError, BadData, BadTemplate, BadTokenizer, BenchmarkError)
"""Exit 2: the message says what to change."""

STORE_ERRORS = (StoreError, Corrupt)
"""Exit 4: the store could not answer."""
