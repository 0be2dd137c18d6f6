"""What one machine can do at a time."""

from controller.executors.machine import Machine, this_machine
from controller.view import Pool
from workloads.contract.experiment import Limits


def test_without_gpus_trainings_and_one_generation_share_the_cores() -> None:
    machine = Machine(cores=16, devices=(), trainings=3)
    assert machine.threads == 4
    assert Pool(frozenset({"train"}), 3) in machine.pools
    assert machine.free_device("train", []) is None


def test_each_training_or_generation_has_a_gpu_to_itself() -> None:
    machine = Machine(cores=16, devices=(0, 1), trainings=2)
    assert Pool(frozenset({"train", "generate"}), 2) in machine.pools
    assert machine.free_device("generate", [0, None]) == 1
    assert machine.free_device("grade", []) is None
    assert machine.environment({}, 1)["CUDA_VISIBLE_DEVICES"] == "1"


def test_thread_counts_that_the_user_set_are_left_alone() -> None:
    environment = Machine(cores=8, devices=(), trainings=1).environment({"OMP_NUM_THREADS": "1"}, None)
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("1", "4")


def test_the_experiment_may_ask_for_fewer_trainings() -> None:
    assert this_machine(Limits(training_slots=1)).trainings == 1
