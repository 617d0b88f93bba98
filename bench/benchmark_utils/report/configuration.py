"""Configurations: YAML files of plain data, read and checked before anything runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmark_utils.report.parallel import check_parallel
from benchmark_utils.report.refusals import ConfigurationError

OPTIONS = ("dataset", "solver", "parallel-config", "no-timeout")  # of `benchopt run`, those that are used here
MOST_BYTES = 1 << 20


class _PlainLoader(yaml.SafeLoader):
    """YAML as plain data: no tags that name Python objects, no aliases, no key twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse aliases: a few lines of them stand for more data than any memory holds."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="anchors and aliases are not used here", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key that stands twice, of which YAML would keep the last without a word."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} stands here twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else "")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigurationError: if the file cannot be read, or holds anything but plain data.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ConfigurationError(f"{path}: a configuration has a few lines, this file has more than a megabyte")
        content = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(f"{path}: not a usable YAML file: {_where(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ConfigurationError(f"{path}: the file must be a mapping of options, one `option: value` a line")
    return content


def _where(error: Exception) -> str:
    """What is wrong and in which line, in one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    said = " ".join(str(problem or error or type(error).__name__).split())[:200]
    return said if mark is None else f"{said} (line {mark.line + 1})"


def read_configuration(path: Path) -> dict[str, Any]:
    """Return the options of a configuration: `dataset` and `solver` as lists, `parallel-config` as a mapping.

    Raises:
        ConfigurationError: if an option is unknown, or its value has another form than benchopt's.
    """
    given = read_yaml(path)
    if "backend" in given:
        raise ConfigurationError(f"{path} says how runs are shared among workers: give it with --parallel-config")
    if unknown := [name for name in given if name not in OPTIONS]:
        raise ConfigurationError(f"{path}: unknown option {unknown[0]!r}; there are {', '.join(OPTIONS)}")
    options = {name: value for name, value in given.items() if value is not None}
    if options.get("no-timeout", True) is not True:
        raise ConfigurationError(f"{path}: no-timeout can only be true: a run is given the time that it takes")
    parallel = options.get("parallel-config", {})
    return {
        "dataset": _selection(path, "dataset", options.get("dataset", [])),
        "solver": _selection(path, "solver", options.get("solver", [])),
        "parallel-config": check_parallel(parallel, f"{path}: parallel-config") if parallel else {},
    }


def read_parallel(path: Path) -> dict[str, Any]:
    """Return the parallel configuration in a YAML file.

    Raises:
        ConfigurationError: if it is not one.
    """
    return check_parallel(read_yaml(path), str(path))


def _selection(path: Path, option: str, value: Any) -> list[str | dict[str, Any]]:
    """The value of `dataset` or `solver`: names, or names with the values of their parameters."""
    entries = value if isinstance(value, list) else [value]
    for entry in entries:
        names = list(entry) if isinstance(entry, dict) else [entry]
        parameters = list(entry.values()) if isinstance(entry, dict) else []
        if not (all(isinstance(name, str) for name in names) and all(map(_is_parameters, parameters))):
            raise ConfigurationError(
                f"{path}: {option} must be a list of names, or of names with parameters: - name: {{parameter: [value]}}"
            )
        if code := [name for name in names if name.split("[")[0].strip().endswith(".py")]:
            raise ConfigurationError(
                f"{path}: {option}: {code[0]!r} is a file of code, which is run only if the command line names it"
            )
    return entries


def _is_parameters(value: Any) -> bool:
    """Whether this can be parameters: a list of values, or values by name."""
    return isinstance(value, list) or (isinstance(value, dict) and all(isinstance(name, str) for name in value))


def chosen_of(names: Sequence[str] | None, configured: Sequence[str | dict[str, Any]]) -> list[str | dict[str, Any]]:
    """Return what of a configuration's tasks or methods is chosen; all if no names are given.

    Args:
        names: one without parameters, "breast", stands for all that the configuration has of it, or for its defaults
            if that has none; "breast[seed=0]" stands for itself.
        configured: names, or names with their parameters.
    """
    if not names:
        return list(configured)
    found: list[str | dict[str, Any]] = []
    for name in names:
        own = [entry if isinstance(entry, str) else {name: entry[name]} for entry in configured if _has(entry, name)]
        found += own or [name]
    return found


def _has(entry: str | dict[str, Any], name: str) -> bool:
    """Whether an entry of a configuration is of this name."""
    return entry == name if isinstance(entry, str) else name in entry
