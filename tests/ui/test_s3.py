"""The page on a store of a real S3 server, with read-only keys."""

import pytest

from tests.tools.s3 import s3_server
from tests.ui.server import site
from tests.ui.stores import two_runs, write
from workloads.api import store_keys
from workloads.storage.base import StoreError, open_store

pytestmark = [pytest.mark.s3, pytest.mark.slow]
ONE = "/api/experiments/distill/aaaa0000"


def test_keys_that_only_read_show_everything(tmp_path_factory: pytest.TempPathFactory) -> None:
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        frozen = two_runs()
        owner = open_store(f"s3://{server.bucket}/team")
        write(owner, frozen)
        owner.put(store_keys.report_prefix(frozen.name, frozen.uid8) + "index.html", b"<h1>Report</h1>")
        allowed = [
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{server.bucket}/team/*"},
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{server.bucket}"},
        ]
        for name, value in server.account(allowed).environment().items():
            patch.setenv(name, value)
        reader = open_store(f"s3://{server.bucket}/team")
        with pytest.raises(StoreError):
            reader.put("probe/written", b"")
        with site(reader) as page:
            (listed,) = page.json("/api/experiments")["experiments"]
            assert (listed["id"], listed["phase"], listed["report"]) == ("distill@aaaa0000", "succeeded", True)
            assert {run["state"] for run in page.json(ONE)["runs"]} == {"done"}
            assert len(page.json(f"{ONE}/curves")["losses"]) == 2
            assert page.json(f"{ONE}/results")["last_pairs"] is not None
            assert len(page.json(f"{ONE}/outputs?model=base&benchmark=sums")["outputs"]) == 5
            assert page.get("/experiments/distill/aaaa0000/report").body == b"<h1>Report</h1>"
