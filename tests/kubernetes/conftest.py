"""`pytest tests/kubernetes --update-golden` writes the golden files again; check the difference before you
commit it.
"""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/kubernetes/golden/* as built now")
