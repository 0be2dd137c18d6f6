"""Registries of objects by name: built-in ones and those that other distributions add.

A distribution adds an object with an entry point in the registry's group; its name is the object's name:

    [potstill.graders]
    contains = my_package.contains:GRADER

Entry points are read when a name is not built-in, or when all names are needed; an object is imported when it is used.
So an added object is known in every process whose `sys.path` has its distribution.
"""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from typing import Any, Generic, TypeVar

from workloads.untrusted import one_line

Entry = TypeVar("Entry")
FindEntryPoints = Callable[[str], Iterable[EntryPoint]]


REASON_CHARACTERS = 200
"""Characters of an error that are quoted if an entry point cannot be loaded."""


class RegistryError(Exception):
    """A name is unknown, or a distribution's entry point cannot be used. The message names it, and says what to do."""


def installed_entry_points(group: str) -> Iterable[EntryPoint]:
    """Returns the entry points of the distributions on `sys.path`, which are read once in a process."""
    found: EntryPoints = _all_entry_points().select(group=group)
    return found


@cache
def _all_entry_points() -> Any:
    """Reads all at once, which opens a file of every distribution. A distribution that occurs twice counts once.

    Python 3.11 returns SelectableGroups, later versions EntryPoints; both have `select`.
    """
    return entry_points()


class Registry(Mapping[str, Entry], Generic[Entry]):
    """A mapping from a name to an object. Built-in names come first and cannot be replaced."""

    def __init__(
        self,
        kind: str,
        group: str,
        entry_type: type[Any],
        builtin: Mapping[str, Entry],
        *,
        named_by: str = "name",
        check: Callable[[Entry], Sequence[str]] | None = None,
        find: FindEntryPoints = installed_entry_points,
    ) -> None:
        """`kind`: the name of an object in messages. `group`: the group of the entry points. `entry_type`: the
        type of each object.

        `named_by`: the attribute that holds an object's name. `check`: returns the rules that an added object breaks.
        """
        self.kind = kind
        self.group = group
        self.builtin = dict(builtin)
        self._entry_type = entry_type
        self._named_by = named_by
        self._check = check
        self._find = find
        self._loaded: dict[str, Entry] = {}

    def __getitem__(self, name: str) -> Entry:
        """Raises KeyError for an unknown name, RegistryError for an entry point that cannot be used."""
        if name in self.builtin:
            return self.builtin[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(self._added[name])
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        """Imports nothing."""
        return name in self.builtin or name in self._added

    def __iter__(self) -> Iterator[str]:
        yield from self.builtin
        yield from self.added

    def __len__(self) -> int:
        return len(self.builtin) + len(self._added)

    def require(self, name: str) -> Entry:
        """Like `[name]`, but raises RegistryError for an unknown name, with the known ones and the nearest of them."""
        if name not in self:
            raise RegistryError(f"{name} is not one of {', '.join(self)}{self.suggestion(name)}")
        return self[name]

    def suggestion(self, name: str) -> str:
        """Returns `; did you mean NAME?` if a known name is similar, otherwise an empty text."""
        close = difflib.get_close_matches(name, list(self), n=1, cutoff=0.5)
        return f"; did you mean {close[0]}?" if close else ""

    def version_of(self, name: str) -> str | None:
        """Returns `DISTRIBUTION VERSION` of an added object; None for a built-in one."""
        return None if name in self.builtin else _distribution(self._added[name])

    @property
    def added(self) -> tuple[str, ...]:
        """Names that other distributions add. Raises RegistryError for a duplicate name."""
        return tuple(sorted(self._added))

    def problems(self) -> list[str]:
        """Returns problems of the entry points' names; empty if each can be used. Imports nothing."""
        try:
            _ = self._added
        except RegistryError as error:
            return [str(error)]
        return []

    @cached_property
    def _added(self) -> dict[str, EntryPoint]:
        found: dict[str, EntryPoint] = {}
        for entry in self._find(self.group):
            if entry.name in self.builtin or entry.name in found:
                owner = _distribution(found[entry.name]) if entry.name in found else "Potstill itself"
                raise RegistryError(
                    f"{self._named(entry)}: the name {entry.name} is taken by {owner}; rename the entry point, or "
                    "uninstall the distribution"
                )
            found[entry.name] = entry
        return found

    def _load(self, entry: EntryPoint) -> Entry:
        try:
            loaded = load_entry_point(entry)
        except RegistryError as error:
            raise RegistryError(f"{self._named(entry)}: {error}") from error
        if not isinstance(loaded, self._entry_type):
            wanted = f"{self._entry_type.__module__}.{self._entry_type.__qualname__}"
            raise RegistryError(f"{self._named(entry)}: is a {type(loaded).__name__}, and must be a {wanted}")
        name = getattr(loaded, self._named_by)
        if name != entry.name:
            raise RegistryError(f"{self._named(entry)}: its {self._named_by} is {name}; both names must be equal")
        found: Entry = loaded
        if self._check is not None and (problems := self._check(found)):
            raise RegistryError(f"{self._named(entry)}: {'; '.join(problems)}")
        return found

    def _named(self, entry: EntryPoint) -> str:
        return f"{self.kind} of {_distribution(entry)} (entry point {entry.name} = {entry.value} in {entry.group})"


def load_entry_point(entry: EntryPoint) -> Any:
    """Imports and returns the object. Raises RegistryError for any failure, also for a module that exits."""
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        reason = one_line(f"{type(error).__name__}: {error}", REASON_CHARACTERS)
        raise RegistryError(f"cannot be loaded ({reason}); repair or uninstall it") from error


def _distribution(entry: EntryPoint) -> str:
    """A folder without METADATA has neither name nor version."""
    known = entry.dist is not None and entry.dist.metadata is not None and entry.dist.metadata["Name"]
    return f"{entry.dist.name} {entry.dist.version}" if known and entry.dist else "an unknown distribution"
