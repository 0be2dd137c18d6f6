import sys
from pathlib import Path

import pytest
import typer

from controller.cli import main
from controller.cli.common import store_at

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_store_that_is_none_is_a_wrong_use_and_says_what_to_write() -> None:
    with pytest.raises(typer.BadParameter, match=r"not a store: write s3://bucket/prefix or file:///"):
        store_at("http://x")


def test_a_directory_may_be_given_as_a_path(tmp_path: Path) -> None:
    assert store_at(str(tmp_path / "a b"), make=True).url == (tmp_path / "a b").as_uri()
    assert store_at((tmp_path / "a b").as_uri()).url == (tmp_path / "a b").as_uri()


@pytest.mark.parametrize("command", ["report", "show", "retry", "regrade", "gate"])
def test_a_command_that_reads_makes_no_store(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = tmp_path / "typo"
    words = ["potstill", command, str(EXAMPLES / "quickstart.yaml"), "--store", str(missing)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 4
    assert f"{missing}: there is no such directory" in capsys.readouterr().err
    assert not missing.exists()


def test_wrong_use_of_the_gate_exits_2_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["potstill", "gate", str(EXAMPLES / "quickstart.yaml"), "--store", "http://x"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
