"""The page's JSON, on stores that the project's own writers made."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from controller.accept import accept
from tests.tools.processes import wait_until
from tests.ui.server import Site, site
from tests.ui.stores import HOSTILE, NOW, save_state, seen_pieces, start_training, tell, two_runs, write, write_manifest
from workloads.api import store_keys
from workloads.api.evaluation_matrix import train_unit
from workloads.api.manifest import Manifest
from workloads.results.tables import row_of
from workloads.storage.base import Store, open_store

pytestmark = pytest.mark.slow
ONE = "/api/experiments/distill/aaaa0000"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A finished experiment, and an earlier version of it with another seed. Tests must not change it."""
    store = open_store((tmp_path_factory.mktemp("ui") / "store").as_uri())
    write(store, two_runs())
    write(store, two_runs("bbbb0000", days=1, seed=7))
    return store


@pytest.fixture(scope="module")
def page(written: Store) -> Iterator[Site]:
    with site(written) as page:
        yield page


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())


def test_the_list_has_state_progress_and_what_differs(page: Site, written: Store) -> None:
    told = page.json("/api/experiments")
    assert told["store"] == written.url
    first, second = told["experiments"]
    assert (first["id"], second["id"]) == ("distill@aaaa0000", "distill@bbbb0000")
    assert (first["phase"], first["accepted"]) == ("succeeded", NOW.isoformat())
    assert first["checkpoints"] == {"done": 4, "total": 4, "failed": 0}
    assert first["evaluations"] == {"done": 5, "total": 5, "failed": 0}
    assert first["differs_from_newest_in"] is None
    assert second["differs_from_newest_in"] == ["seed"]


def test_one_experiment_has_its_runs_and_evaluations(page: Site) -> None:
    told = page.json(ONE)
    assert [(run["name"], run["state"], run["checkpoints"]) for run in told["runs"]] == [
        ("first", "done", 2), ("second", "done", 2),
    ]  # fmt: skip
    assert {line["state"] for line in told["evaluations"]} == {"done"}
    assert (told["tasks"], told["failures"], told["damaged"]) == ([], [], [])


def test_curves_are_the_figures_of_the_reports_tables(page: Site, written: Store) -> None:
    told = page.json(f"{ONE}/curves")
    manifest = Manifest.model_validate_json(written.get(store_keys.manifest_key("distill", "aaaa0000")))
    assert [(curve["points"], curve["running"]) for curve in told["losses"]] == [([[50, 2.0], [100, 1.0]], False)] * 2
    assert told["losses"][0]["validation"] == [[50, 1 / 50], [100, 1 / 100]]
    shown = [curve for curve in told["shares"] if curve["metric"] == "accuracy" and curve["budget_tokens"] == 4096]
    (curve,) = shown
    assert (curve["base"]["k"], curve["base"]["n"]) == (1, 2)  # the base has answered five; checkpoints get two
    for series in curve["series"]:
        for point in series["points"]:
            model = next(item for item in manifest.models if item.id == point["model"])
            row = row_of(manifest, model, "sums", 4096)
            assert row is not None
            assert (point["k"], point["n"], (point["low"], point["high"])) == (
                row.accuracy.k, row.accuracy.n, row.accuracy.interval,
            )  # fmt: skip
    assert [point["k"] for series in curve["series"] for point in series["points"]] == [1, 1, 2, 2]


def test_results_are_the_reports_first_tables(page: Site) -> None:
    told = page.json(f"{ONE}/results")
    assert told["overview"]["headline"].startswith("No run can be named best")
    assert [row["model"] for row in told["overview"]["groups"][0]["rows"]] == ["base", "first@100", "second@100"]
    (row,) = told["last_pairs"]["groups"][0]["rows"]
    assert (row["first"], row["second"]) == ("first@100", "second@100")


def test_outputs_are_whole_with_their_verdicts(page: Site) -> None:
    told = page.json(f"{ONE}/outputs")
    assert told["budgets"] == [2048, 4096]
    assert {(item["model"], item["outputs"]) for item in told["readable"]} == {
        ("base", 5), ("first@50", 2), ("first@100", 2), ("second@50", 2), ("second@100", 2),
    }  # fmt: skip
    listed = page.json(f"{ONE}/outputs?model=first@100&benchmark=sums")
    assert [(line["problem"], line["codes"]["4096"]) for line in listed["outputs"]] == [("p0", "R"), ("p1", "W")]
    one = page.json(f"{ONE}/output?model=first@100&benchmark=sums&problem=p1&index=0")
    assert one["text"].startswith("first@100 sums/fast of ")
    assert one["text"].endswith(f" says {HOSTILE} of p1")
    assert one["grades"][1]["why"] == "different answer"
    assert one["notes"][0].startswith("The problems and prompts of sums are not shown: ")


@pytest.mark.parametrize(
    "path",
    [
        f"{ONE}/outputs?model=nobody&benchmark=sums",
        f"{ONE}/output?model=first@100&benchmark=sums&problem=p9&index=0",
        f"{ONE}/output?model=first@100&benchmark=sums&problem=p0&index=-1",
        f"{ONE}/output?model=first@100&benchmark=sums&problem=p0&index=%C2%B2",
        f"{ONE}/output",
        "/api/experiments/distill/cccc0000",
        "/api/compare?old=distill@aaaa0000&new=nothing",
        "/experiments/distill/aaaa0000/report",
    ],
)
def test_a_missing_key_is_not_found(page: Site, path: str) -> None:
    assert page.get(path).status == 404


def test_two_experiments_are_compared_as_by_diff(page: Site) -> None:
    told = page.json("/api/compare?old=distill@bbbb0000&new=distill@aaaa0000")
    assert told["differs"] == ["seed"]
    assert ["base", "sums"] in told["unchanged"]
    assert {(row["model"], row["problems"], row["points"]) for row in told["compared"]} == {
        (model, 2, 0.0) for model in ("first@50", "first@100", "second@50", "second@100")
    }
    assert not any(row["significant"] for row in told["compared"])


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/experiments/../../etc/passwd",
        f"/experiments/{quote('../distill', safe='')}/aaaa0000/report",
        "/experiments/%2e%2e/aaaa0000/report",
        "/api/experiments/%2e%2e/aaaa0000",
        "/api/experiments/distill%00/aaaa0000",
        f"/api/experiments/{quote('distill/aaaa0000/../../distill', safe='')}/aaaa0000",
    ],
)
def test_no_path_leads_out_of_the_page_and_the_store(page: Site, path: str) -> None:
    answer = page.get(path)
    assert answer.status == 404
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/api/experiments", ONE, "/static/ui.css"])
def test_only_reading_is_allowed(page: Site, method: str, path: str) -> None:
    assert page.get(path, method=method).status == 405


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8321", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_another_name_for_this_machine_is_refused(page: Site, host: str) -> None:
    """A page of another origin whose name resolves to this machine can read nothing."""
    for path in ("/", "/api/experiments", "/static/ui.css"):
        assert page.get(path, headers={"Host": host}).status == 400


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1:8321", "[::1]:8321", "lab.example"])
def test_names_of_this_machine_and_allowed_ones_are_served(written: Store, host: str) -> None:
    with site(written, "lab.example") as page:
        assert page.get("/api/experiments", headers={"Host": host}).status == 200


def test_every_answer_has_a_strict_policy(page: Site) -> None:
    for path in ("/", "/experiments/distill/aaaa0000", "/api/experiments", "/nothing", "/static/ui.css"):
        headers = page.get(path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        assert "unsafe" not in policy
        assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")
        assert "access-control-allow-origin" not in headers


def test_an_unchanged_answer_is_not_sent_again(page: Site) -> None:
    for path in ("/", ONE, f"{ONE}/curves", "/static/ui.css", "/static/report.css"):
        etag = page.get(path).headers["etag"]
        again = page.get(path, headers={"If-None-Match": etag})
        assert (again.status, again.body) == (304, b"")


def test_a_stored_report_is_served_into_a_sandbox(store: Store) -> None:
    frozen = two_runs()
    write(store, frozen)
    store.put(store_keys.report_prefix(frozen.name, frozen.uid8) + "index.html", b"<h1>Report</h1>")
    with site(store) as page:
        assert page.json("/api/experiments")["experiments"][0]["report"] is True
        answer = page.get("/experiments/distill/aaaa0000/report")
        assert (answer.status, answer.body) == (200, b"<h1>Report</h1>")
        assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")


def test_a_running_training_has_its_steps_its_losses_and_its_last_sign(store: Store) -> None:
    frozen = two_runs()
    accept(frozen, store)
    unit = start_training(store, frozen)
    with site(store) as page:
        tell(store, unit, 10, 1.5)
        wait_until(lambda: page.json(ONE)["runs"][0]["done"] == 10, "step 10 is shown")
        tell(store, unit, 11, 1.25)
        wait_until(lambda: page.json(ONE)["runs"][0]["done"] == 11, "step 11 is shown")
        told = page.json(ONE)
        assert told["summary"]["phase"] == "running"
        (task,) = told["tasks"]
        assert (task["kind"], task["about"], task["phase"], task["eta_seconds"]) == (
            "train",
            ["first"],
            "training",
            75.0,
        )
        (listed,) = page.json("/api/experiments")["experiments"]
        assert listed["phase"] == "running"
        assert page.json(f"{ONE}/curves")["losses"][0]["points"] == [[100, 1.5], [100, 1.25]]  # of 100 samples at most


def test_losses_go_on_from_the_newest_resume_state(store: Store) -> None:
    frozen = two_runs()
    accept(frozen, store)
    unit = start_training(store, frozen)
    save_state(store, unit, 1)
    with site(store) as page:
        tell(store, unit, 2, 0.75)
        wait_until(lambda: page.json(ONE)["runs"][0]["done"] == 2, "step 2 is shown")
        curve = page.json(f"{ONE}/curves")["losses"][0]
        assert (curve["points"], curve["steps"], curve["running"]) == ([[50, 2.0], [100, 0.75]], 2, True)


def test_accuracy_is_shown_before_the_manifest_exists(store: Store) -> None:
    frozen = two_runs()
    write(store, frozen)
    store.delete(store_keys.manifest_key(frozen.name, frozen.uid8))
    with site(store) as page:
        (curve,) = [
            c for c in page.json(f"{ONE}/curves")["shares"] if (c["metric"], c["budget_tokens"]) == ("accuracy", 4096)
        ]
        assert [point["k"] for series in curve["series"] for point in series["points"]] == [1, 1, 2, 2]
        assert page.json(f"{ONE}/results") is None


def test_damaged_records_are_named_and_the_rest_is_shown(store: Store) -> None:
    frozen, other = two_runs(), two_runs("bbbb0000", days=1, seed=7)
    write(store, frozen)
    write(store, other)
    store.put(store_keys.experiment_key(other.name, other.uid8), b"{")
    store.put(store_keys.marker_key(train_unit(frozen.runs[0]), store_keys.checkpoint_marker(50)), b"{}")
    store.put("experiments/distill/cccc0000/experiment.json", b"\xff\x00")
    with site(store) as page:
        listed = {one["id"]: one for one in page.json("/api/experiments")["experiments"]}
        assert [listed[f"distill@{uid}"]["phase"] for uid in ("aaaa0000", "bbbb0000", "cccc0000")] == [
            "succeeded", "unreadable", "unreadable",
        ]  # fmt: skip
        assert "is not an experiment that this version can read" in listed["distill@bbbb0000"]["error"]
        assert page.get("/experiments/distill/bbbb0000").status == 200
        refused = page.get("/api/experiments/distill/bbbb0000")
        assert (refused.status, "is not an experiment that this version can read" in refused.json["error"]) == (
            503,
            True,
        )
        told = page.json(ONE)
        assert "checkpoint-000000050.json is not a marker that this version can read" in told["damaged"][0]
        store.put(store_keys.manifest_key(frozen.name, frozen.uid8), b"{}")
        told = wait_until(lambda: (found := page.json(ONE))["summary"]["phase"] == "unreadable" and found, "it is seen")
        assert any("manifest.json is not a manifest" in text for text in told["damaged"])
        assert told["runs"][1]["state"] == "done"


def test_damaged_outputs_cost_no_more_than_themselves(store: Store) -> None:
    frozen = two_runs()
    write(store, frozen)
    piece = next(p for p in seen_pieces(store, frozen) if p.want.id == "first@50 sums/fast")
    assert piece.generate_unit is not None
    key = next(i.key for i in store.list(store_keys.unit_prefix(piece.generate_unit) + "attempts/"))
    store.put(key, b"damaged\n")
    with site(store) as page:
        damaged = page.json(f"{ONE}/outputs?model=first@50&benchmark=sums")
        assert (damaged["outputs"], "is not what was committed" in damaged["note"]) == ([], True)
        assert len(page.json(f"{ONE}/outputs?model=first@100&benchmark=sums")["outputs"]) == 2


def test_nothing_is_written(store: Store) -> None:
    frozen = two_runs()
    write(store, frozen)
    root = Path(store.url.removeprefix("file://"))
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")}
    with site(store) as page:
        for path in ("/api/experiments", ONE, f"{ONE}/curves", f"{ONE}/results", f"{ONE}/outputs",
                     f"{ONE}/outputs?model=base&benchmark=sums", "/api/compare?old=distill@aaaa0000&new=distill@aaaa0000"):  # fmt: skip
            page.json(path)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in root.rglob("*")} == before


def test_a_store_that_does_not_answer_is_named_in_the_answer(store: Store) -> None:
    write(store, two_runs())
    root = Path(store.url.removeprefix("file://"))
    with site(store) as page:
        page.json("/api/experiments")
        root.rename(root.with_name("away"))
        answer = wait_until(lambda: (a := page.get("/api/experiments")).status == 503 and a, "the store is away")
        assert answer
        assert "the store's directory does not exist" in json.loads(answer.body)["error"]
        root.with_name("away").rename(root)
        wait_until(lambda: page.get("/api/experiments").status == 200, "the store is back")


def test_an_interim_manifest_leaves_it_unfinished(store: Store) -> None:
    frozen = two_runs()
    write(store, frozen)
    write_manifest(store, frozen, "running")
    with site(store) as page:
        assert page.json("/api/experiments")["experiments"][0]["phase"] == "unfinished"
