"""Named entries of an extension point: built-ins, registered entries, entry points and `module:name`."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


@dataclass(frozen=True)
class Origin:
    """A plug-in's module, the version of its distribution ("" if unknown) and the SHA-256 of its source."""

    module: str
    version: str
    sha256: str


class Registry(Generic[T]):
    """Entries of one kind by name.

    Args:
        kind: the word for an entry in messages, such as "model family".
        group: the entry point group in which other distributions offer entries.
        check: raises TypeError naming the required part that an entry lacks.
        builtins: name -> entry, or its address `package.module:attribute`, imported when first needed.

    Example:
        >>> greetings = Registry("greeting", "example.greetings", lambda name, entry: None, {"hello": print})
        >>> greetings.get("hello") is print, greetings.origin("hello")
        (True, None)
    """

    def __init__(
        self, kind: str, group: str, check: Callable[[str, Any], None], builtins: Mapping[str, T | str]
    ) -> None:
        self.kind, self.group, self._check, self._builtins = kind, group, check, builtins
        self._entries: dict[str, T] = {}
        self._origins: dict[str, Origin] = {}

    @overload
    def add(self, name: str, entry: T) -> T: ...
    @overload
    def add(self, name: str) -> Callable[[T], T]: ...
    def add(self, name: str, entry: T | None = None) -> T | Callable[[T], T]:
        """Register an entry and return it; without `entry`, return a decorator.

        Registering a name again replaces the entry. Raises TypeError if the entry lacks a required part,
        ValueError if the name belongs to a built-in or contains a colon.
        """
        if entry is None:
            return lambda decorated: self.add(name, decorated)
        if name in self._builtins or ":" in name:
            raise ValueError(f"{self.kind} {name!r} cannot be registered: the name is a built-in's or has a colon")
        module = entry.__module__ if inspect.isroutine(entry) or inspect.isclass(entry) else _caller()
        return self._register(name, entry, module)

    def get(self, name: str) -> T:
        """The entry of this name.

        Raises LookupError if there is none or its module cannot be imported, TypeError if it lacks a required part.
        """
        if name not in self._entries:
            address = self._builtins.get(name) or (name if ":" in name else self._entry_points.get(name))
            if address is None:
                raise LookupError(self._unknown(name))
            entry: Any = self._import(name, address) if isinstance(address, str) else address
            if name in self._builtins:
                self._check(name, entry)
                self._entries[name] = entry
            else:
                self._register(name, entry, str(address).partition(":")[0])
        return self._entries[name]

    def names(self) -> list[str]:
        """Every name in order: built-ins, registered entries and those that entry points offer."""
        registered = {name for name in self._entries if ":" not in name}
        return sorted({*self._builtins, *registered, *self._entry_points})

    def origin(self, name: str) -> Origin | None:
        """The code behind an entry; None for a built-in. Raises as `get` does."""
        if name in self._builtins:
            return None
        self.get(name)
        return self._origins[name]

    @cached_property
    def _entry_points(self) -> dict[str, str]:
        from importlib import metadata  # 15 ms, which only a name that is no built-in has to wait for

        return {point.name: point.value for point in metadata.entry_points(group=self.group)}

    def _register(self, name: str, entry: T, module: str) -> T:
        self._check(name, entry)
        self._origins[name] = Origin(module, _version(module), _sha256(module, entry))
        self._entries[name] = entry
        return entry

    def _import(self, name: str, address: str) -> Any:
        module, _, attributes = address.partition(":")
        if not {"", here := str(Path.cwd())} & set(sys.path):  # as for `python -m`; a console script lacks it
            sys.path.append(here)
        try:
            entry: Any = importlib.import_module(module)
            for attribute in attributes.split("."):
                entry = getattr(entry, attribute)
        except Exception as error:
            message = f"{self.kind} {name!r}: cannot import {address} ({type(error).__name__}: {error})"
            raise LookupError(message) from error
        return entry

    def _unknown(self, name: str) -> str:
        import difflib

        near = difflib.get_close_matches(name, self.names(), n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        return f"unknown {self.kind} {name!r}; {guess}valid: {', '.join(self.names())}, or module:name"


def _caller() -> str:
    """The module that called this one."""
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals["__name__"] == __name__:
        frame = frame.f_back
    return "__main__" if frame is None else str(frame.f_globals["__name__"])


def _version(module: str) -> str:
    from importlib import metadata

    package = module.partition(".")[0]
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return str(getattr(sys.modules[package], "__version__", ""))


def _sha256(module: str, entry: Any) -> str:
    """Of the module's file; in a notebook, which has none, of the entry's own source."""
    file = getattr(sys.modules[module], "__file__", None)
    try:
        source = Path(file).read_bytes() if file else inspect.getsource(entry).encode()
    except (OSError, TypeError) as error:
        raise TypeError(f"the source of {module} cannot be read; define the entry in a file") from error
    return hashlib.sha256(source).hexdigest()
