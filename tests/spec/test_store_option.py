from pathlib import Path

import pytest
import typer

from controller.cli.common import store_at


def test_a_store_that_is_none_is_a_wrong_use_and_says_what_to_write() -> None:
    with pytest.raises(typer.BadParameter, match=r"no store: write s3://bucket/prefix or file:///"):
        store_at("http://x")


def test_a_directory_may_be_given_as_a_path(tmp_path: Path) -> None:
    assert store_at(str(tmp_path / "a b")).url == (tmp_path / "a b").as_uri()
