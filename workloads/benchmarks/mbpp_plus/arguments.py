"""Converts MBPP+ v0.2.0's JSON to Python inputs and oracles, like evalplus 0.3.1 (data/mbpp.py,
eval/_special_oracle.py).

JSON has no tuples, sets or complex numbers; these tables state where a task's inputs have them.
"""

from collections.abc import Callable
from typing import Any


def _tuple_arguments(arguments: list[Any]) -> list[Any]:
    return [tuple(argument) for argument in arguments]


def _lists_of_tuples(arguments: list[Any]) -> list[Any]:
    return [[tuple(item) for item in argument] for argument in arguments]


def _tuples_of_tuples(arguments: list[Any]) -> list[Any]:
    return [tuple(tuple(item) for item in argument) for argument in arguments]


def _first_list_of_tuples(arguments: list[Any]) -> list[Any]:
    return [[tuple(item) for item in arguments[0]], arguments[1]]


def _first_tuple(arguments: list[Any]) -> list[Any]:
    return [tuple(arguments[0]), *arguments[1:]]


def _second_tuple(arguments: list[Any]) -> list[Any]:
    return [arguments[0], tuple(arguments[1])]


def _sets_in_first(arguments: list[Any]) -> list[Any]:
    return [[set(item) if isinstance(item, list) and item else {} for item in arguments[0]]]


def _real_and_complex(arguments: list[Any]) -> list[Any]:
    return [float(arguments[0]), complex(arguments[1])]


def _complex(arguments: list[Any]) -> list[Any]:
    return [complex(arguments[0])]


def _first_tuple_of_mixed(arguments: list[Any]) -> list[Any]:
    return [tuple(tuple(item) if isinstance(item, list) else item for item in arguments[0])]


def _dict_of_tuples(arguments: list[Any]) -> list[Any]:
    return [{key: tuple(value) for key, value in arguments[0].items()}, *arguments[1:]]


def _tuples_all_through(value: Any) -> Any:
    return tuple(_tuples_all_through(item) for item in value) if isinstance(value, list) else value


_SHAPES: dict[Callable[[list[Any]], Any], str] = {
    _tuple_arguments: "2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809",
    _lists_of_tuples: "63 64 70 94 120 237 272 299 400 409 417 438 473 614 780",
    _first_list_of_tuples: "75 413 444 753",
    _second_tuple: "106 750",
    _sets_in_first: "115",
    _real_and_complex: "124",
    _first_tuple: "250 405 446 617 720 763 808 307",
    _tuples_of_tuples: "259 401 445",
    _first_tuple_of_mixed: "278",
    _dict_of_tuples: "722",
    _complex: "252",
    _tuples_all_through: "580 615 791",
}
_SHAPE_OF = {int(task): shape for shape, tasks in _SHAPES.items() for task in tasks.split()}

ORACLES = {
    "check_str": "not none",
    "text_match_three": "not none",
    "text_starta_endb": "not none",
    "similar_elements": "same set",
    "find_char_long": "same set",
    "common_in_nested_lists": "same set",
    "extract_singly": "same set",
    "larg_nnum": "same set",
    "intersection_array": "same set",
    "find_dissimilar": "same set",
    "Diff": "same set",
    "are_equivalent": "anything",
    "sum_div": "equal or 0",
    "surface_Area": "pyramid surface",
    "digit_distance_nums": "digit distance",
}
"""Oracles by entry point; for every other task it is `equal`."""


def arguments_of(task_id: str, inputs: list[Any]) -> list[Any]:
    """Returns the positional arguments of one test, from its JSON."""
    shape = _SHAPE_OF.get(int(task_id.removeprefix("Mbpp/")))
    return inputs if shape is None else list(shape(inputs))
