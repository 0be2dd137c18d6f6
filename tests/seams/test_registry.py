"""Additions of other distributions are found, checked, and never replace built-in entries."""

import sys
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, distributions
from pathlib import Path

import pytest

from controller.cli.added_checks import check_added_parts
from controller.cli.expected import WRONG_INPUT
from controller.experiment.errors import SpecError
from controller.experiment.load import parse_experiment
from tests.experiment.wrong_specs import MINIMAL
from tests.seams.toy import install, shown_files, write_metadata
from workloads.api.experiment import FrozenBenchmark
from workloads.api.tasks import FileSource
from workloads.api.units import GRADER_VERSION, Prompting, Template
from workloads.benchmarks.registry import BENCHMARKS, domain_of, frozen_domain
from workloads.engines.registry import ENGINES
from workloads.graders.base import Grader
from workloads.graders.registry import GRADERS
from workloads.models import FAMILIES
from workloads.models.base import ModelFamily
from workloads.registry import Registry, RegistryError
from workloads.stages.base import Stage
from workloads.storage.registry import STORES

GROUP = "potstill.graders"


def found_in(*sites: Path) -> Callable[[str], Iterable[EntryPoint]]:
    """The entry points of the distributions in these folders only."""

    def find(group: str) -> Iterable[EntryPoint]:
        paths = [str(site) for site in sites]
        return [entry for found in distributions(path=paths) for entry in found.entry_points.select(group=group)]

    return find


def graders(*sites: Path) -> Registry[Grader]:
    return Registry[Grader]("grader", GROUP, Grader, GRADERS.builtin, find=found_in(*sites))


def distribution(site: Path, name: str, value: str, distribution: str = "extra") -> Path:
    write_metadata(site, distribution, "1.2", {GROUP: {name: value}})
    return site


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterable[Path]:
    site = install(tmp_path / "site")
    monkeypatch.syspath_prepend(site)
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "toy"]:
        del sys.modules[name]


def test_every_registry_has_its_built_in_names_first() -> None:
    assert list(GRADERS)[:4] == ["math", "code", "exact", "choice"]
    assert list(ENGINES)[:2] == ["transformers", "vllm"]
    assert list(STORES)[:2] == ["s3", "file"]
    assert {"math-500", "mbpp-plus", "gsm8k", "humaneval-plus"} <= set(BENCHMARKS)
    assert all(family.architecture == name for name, family in FAMILIES.builtin.items())


def test_an_added_grader_is_found_with_its_distribution(toy: Path) -> None:
    found = graders(toy)
    assert list(found) == [*GRADERS.builtin, "mentions"]
    assert found["mentions"].name == "mentions"
    assert found.version_of("mentions") == "toy 0.1"
    assert found.version_of("math") is None


def test_an_added_family_is_named_by_its_architecture(toy: Path) -> None:
    families = Registry[ModelFamily](
        "model family", FAMILIES.group, ModelFamily, {}, named_by="architecture", find=found_in(toy)
    )
    assert families["StableLmForCausalLM"].name == "stablelm"


def test_a_built_in_name_cannot_be_taken(tmp_path: Path) -> None:
    found = graders(distribution(tmp_path, "math", "toy.mentions:MENTIONS"))
    assert found["math"] is GRADERS["math"]
    with pytest.raises(RegistryError, match=r"grader of extra 1\.2 \(entry point math = toy\.mentions:MENTIONS in "):
        list(found)
    assert "the name math is taken by Potstill itself" in found.problems()[0]


def test_two_distributions_cannot_add_one_name(tmp_path: Path) -> None:
    sites = [distribution(tmp_path / name, "mine", "a:B", name) for name in ("one", "two")]
    (problem,) = graders(*sites).problems()
    assert problem.startswith("grader of two 1.2 (entry point mine = a:B in potstill.graders)")
    assert "the name mine is taken by one 1.2" in problem


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("no_such_module_at_all:GRADER", r"cannot be loaded \(ModuleNotFoundError: No module named"),
        ("json:GRADER", r"cannot be loaded \(AttributeError: "),
        ("json:dumps", r"is a function, and must be a workloads\.graders\.base\.Grader"),
        ("workloads.graders.exact:EXACT", "its name is exact; both names must be equal"),
    ],
)
def test_an_unusable_entry_point_is_refused_with_its_distribution(tmp_path: Path, value: str, reason: str) -> None:
    found = graders(distribution(tmp_path, "mine", value))
    assert "mine" in found
    assert found.problems() == []
    with pytest.raises(RegistryError, match=rf"^grader of extra 1\.2 \(entry point mine = {value} in .*{reason}"):
        _ = found["mine"]


def test_an_unknown_name_is_refused_with_the_known_ones_and_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RegistryError, match=r"maths is not one of math, code, exact, choice; did you mean math\?"):
        graders(tmp_path).require("maths")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "{name: math-500}",
            "{name: own, uri: own.jsonl, grader: maths}",
            "benchmarks[0].grader: maths is not one of math, code, exact, choice; did you mean math?",
        ),
        (
            "evaluation:",
            "evaluation:\n    engine: {name: vlm}",
            "engine.name: vlm is not one of transformers, vllm; did you mean vllm?",
        ),
    ],
)
def test_an_experiment_with_an_unknown_name_is_refused(before: str, after: str, message: str) -> None:
    assert before in MINIMAL
    with pytest.raises(SpecError) as refused:
        parse_experiment(MINIMAL.replace(before, after), "experiment.yaml")
    assert message in str(refused.value)


def test_an_added_grader_has_its_distributions_version_in_the_digest(
    toy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workloads.graders.registry.GRADERS", graders(toy))
    from workloads.graders.registry import added_version

    assert added_version("mentions") == f"{GRADER_VERSION}+toy-0.1"
    assert added_version("math") is None


def test_each_page_shows_what_the_table_of_entry_points_names() -> None:
    files = shown_files()
    named = [line for line in files["pyproject.toml"].splitlines() if " = " in line and ":" in line]
    assert len(named) == 5
    for line in named:
        module, _, attribute = line.split(" = ")[1].strip('"').partition(":")
        assert f"\n{attribute} = " in files[module.replace(".", "/") + ".py"]


def test_stored_objects_with_built_in_names_have_not_changed() -> None:
    benchmark = FrozenBenchmark(
        name="own",
        source=FileSource(location="own.jsonl", sha256="0" * 64),
        grader="math",
        completion="boxed",
        parts=(),
        checkpoint_parts=(),
        base_parts=(),
        trained_prompting={},
        base_prompting=Prompting(template=Template()),
    )
    assert "grader_version" not in benchmark.model_dump()
    assert b"grader" in benchmark.to_json()
    assert b"Version" not in benchmark.to_json()
    assert [frozen_domain(name) for name in ("math-500", "mbpp-plus", "gsm8k")] == [None, None, "math"]
    assert [domain_of(name) for name in ("math-500", "mbpp-plus", "gsm8k", "own")] == ["math", "code", None, None]


def test_doctor_names_what_is_added_and_what_cannot_be_used(toy: Path, tmp_path: Path) -> None:
    broken = distribution(tmp_path / "broken", "other", "no_such_module_at_all:GRADER")
    taken = distribution(tmp_path / "taken", "math", "toy.mentions:MENTIONS")
    checks = list(check_added_parts([graders(toy, broken), graders(taken), graders()]))
    assert [(check.state, check.name) for check in checks] == [
        ("good", "grader"),
        ("blocks", "grader"),
        ("blocks", "grader"),
    ]
    assert checks[0].finding == "mentions of toy 0.1"
    assert "extra 1.2" in checks[1].finding
    assert "the name math is taken" in checks[2].finding


@pytest.mark.parametrize("failure", ["raise RuntimeError('one\\ntwo\\x1b[31m')", "raise SystemExit(3)"])
def test_a_module_that_raises_or_ends_itself_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    (tmp_path / "ends_itself.py").write_text(failure)
    monkeypatch.syspath_prepend(tmp_path)
    found = graders(distribution(tmp_path, "mine", "ends_itself:GRADER"))
    with pytest.raises(
        RegistryError, match=r"mine = ends_itself:GRADER in .*cannot be loaded \((Run|System)"
    ) as raised:
        found.require("mine")
    assert "\n" not in str(raised.value)
    assert "\x1b" not in str(raised.value)


def test_a_distribution_without_metadata_is_unknown(tmp_path: Path) -> None:
    site = distribution(tmp_path, "mine", "no_such_module_at_all:GRADER")
    (site / "extra-1.2.dist-info" / "METADATA").unlink()
    with pytest.raises(RegistryError, match="^grader of an unknown distribution"):
        graders(site).require("mine")


def test_a_stage_that_cannot_be_loaded_is_wrong_input_for_every_command() -> None:
    """`gc` reads the stages before any experiment."""
    broken = EntryPoint("mine", "no_such_module_at_all:STAGE", "potstill.stages")
    stages = Registry[Stage]("stage", "potstill.stages", Stage, {}, find=lambda _: [broken])
    with pytest.raises(WRONG_INPUT, match="mine = no_such_module_at_all:STAGE in potstill.stages.*cannot be loaded"):
        stages.require("mine")
    checks = list(check_added_parts([stages]))
    assert [(check.state, check.name) for check in checks] == [("blocks", "stage")]
