"""The capacity of one machine: slots, threads and GPUs."""

import pytest

from controller.executors.local.machine import Gpu, Machine, this_machine, visible_devices
from controller.snapshot.types import Pool
from workloads.api.experiment import Limits


def test_without_gpus_trainings_and_one_generation_share_the_cores() -> None:
    machine = Machine(cores=16, devices=(), trainings=3)
    assert machine.threads == 4
    assert Pool(frozenset({"train"}), 3) in machine.pools
    assert machine.free_device("train", []) is None


def test_each_training_or_generation_has_a_gpu_to_itself() -> None:
    machine = Machine(cores=16, devices=("0", "1"), trainings=2)
    assert Pool(frozenset({"train", "generate"}), 2) in machine.pools
    assert machine.free_device("generate", ["0", None]) == "1"
    assert machine.free_device("grade", []) is None
    assert machine.environment({}, "1")["CUDA_VISIBLE_DEVICES"] == "1"


def test_thread_counts_that_the_user_set_are_left_alone() -> None:
    environment = Machine(cores=8, devices=(), trainings=1).environment({"OMP_NUM_THREADS": "1"}, None)
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("1", "4")


def test_the_experiment_may_ask_for_fewer_trainings() -> None:
    assert this_machine(Limits(training_slots=1)).trainings == 1


TWO = (Gpu("GPU-aaaa-1111", "NVIDIA H200"), Gpu("GPU-aabb-2222", "NVIDIA H200"))


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        (None, ("0", "1")),
        ("", ()),
        ("-1", ()),
        ("1", ("1",)),
        ("1,0", ("1", "0")),
        (" 0 , 1 ", ("0", "1")),
        ("0,7,1", ("0",)),
        ("0,0", ("0",)),
        ("GPU-aabb-2222", ("GPU-aabb-2222",)),
        ("GPU-aab,GPU-aaa", ("GPU-aab", "GPU-aaa")),
        ("GPU-aa", ()),
        ("GPU-cccc", ()),
        ("0,GPU-aaaa-1111", ("0",)),
        ("MIG-5f3b", ("MIG-5f3b",)),
    ],
)
def test_gpus_are_those_that_cuda_would_use(visible: str | None, devices: tuple[str, ...]) -> None:
    assert visible_devices(TWO, visible) == devices


def test_without_a_driver_nothing_is_visible() -> None:
    assert visible_devices((), "0,GPU-aaaa,MIG-1") == ()
    assert visible_devices((), None) == ()
