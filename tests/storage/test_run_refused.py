"""`potstill run` on an S3 server that reads and refuses to write, as with expired credentials or over a quota."""

import os
import signal
import threading
from pathlib import Path

import pytest

from controller import local_runner
from controller.local_runner import run_local
from tests.controller.driver import executor, small
from tests.storage.http_proxy import Answer, Do, HttpProxy
from tests.tools.processes import wait_until
from tests.tools.s3 import S3Server
from workloads.storage.base import open_store

pytestmark = [pytest.mark.s3, pytest.mark.slow]
WATCHED_SECONDS = 8.0


def test_it_asks_seldom_and_ends_on_the_first_signal(
    server: S3Server,
    requests: HttpProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("POTSTILL_S3_ENDPOINT", requests.url)
    monkeypatch.setattr(local_runner, "S3_POLL_SECONDS", 0.5)
    store = open_store(f"s3://{server.bucket}/{tmp_path.name}")
    held, counted = tmp_path / "train.hold", []
    held.touch()

    def refuse() -> None:
        starts = tmp_path / "starts"
        wait_until(lambda: starts.is_dir() and any("train" in path.name for path in starts.iterdir()), "the training")
        requests.rule = lambda seen: Answer(403, "AccessDenied") if seen.writes else Do.FORWARD
        before = len([seen for seen in requests.seen if seen.writes])
        held.unlink()
        threading.Event().wait(WATCHED_SECONDS)
        counted.append(len([seen for seen in requests.seen if seen.writes]) - before)
        os.kill(os.getpid(), signal.SIGTERM)

    refusing = threading.Thread(target=refuse)
    refusing.start()
    work = executor(store, tmp_path)
    final = run_local(small(), store, live=False, folder=tmp_path / "work", executor=work)
    refusing.join()
    said = capsys.readouterr().out.splitlines()
    assert final.outcome == "Interrupted", final
    assert "do not allow it: grant s3:GetObject, PutObject" in final.message
    assert not work.is_busy()
    assert 1 <= sum("Trying again, after 30 s at most" in line for line in said) <= 2, said
    assert counted[0] < 30, counted
