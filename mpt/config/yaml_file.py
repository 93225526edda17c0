"""Reads configs from YAML, strictly and each on top of its base, and writes complete configs back."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mpt.errors import UserError, first_line, nearest, one_line
from mpt.system.paths import AnyPath, missing

Config = TypeVar("Config")

# Options of runs that an older version has made, and their names now.
RENAMED = {
    "probe_every": "validate_every",
    "probe_rows": "validation_rows",
    "parts": "microbatches",
    "clip": "clip_norm",
}


def find_config(name: str, folder: Path = Path()) -> Path:
    """The path of a config: a packaged one by its name, or a file by its path relative to ``folder``.

    Raises:
        UserError: there is neither.
    """
    packaged = resources.files("mpt") / "configs" / f"{name}.yaml"
    if packaged.is_file():
        return Path(str(packaged))
    if (folder / name).is_file():
        return folder / name
    files = (path.name for path in (resources.files("mpt") / "configs").iterdir())
    known = [file.removesuffix(".yaml") for file in files if file.endswith(".yaml")]
    known += [path.name for path in folder.glob("[!.]*.yaml")]
    raise UserError(f"config '{name}': no such file or packaged config; {nearest(name, known)}")


def load_config(kind: type[Config], path: AnyPath, heirs: tuple[AnyPath, ...] = ()) -> Config:
    """Reads a YAML file into the dataclass ``kind``.

    The key `base`, at the top level or in a section, names another config, by its packaged name or by its
    path relative to this file. Keys that are left out here take their values from that config.

    Args:
        heirs: the files whose chain of bases led to this one; they serve to detect a circle.

    Raises:
        UserError: a key is unknown, appears twice, or has a value of the wrong type; the error names the
            file and the key.
    """
    files = (*heirs, path)
    if path.resolve() in [file.resolve() for file in heirs]:
        raise UserError(f"{heirs[-1]}: base: the configs form a circle: {' -> '.join(map(str, files))}")
    return from_plain(kind, _with_bases(kind, read_yaml(path), files), str(path))


def kind_of(path: AnyPath, kinds: Sequence[type[Config]]) -> type[Config]:
    """The class among ``kinds`` that a config file is for: the one with most of the file's top-level keys."""
    plain = read_yaml(path)
    if isinstance(base := plain.pop("base", None), str) and not plain.keys() - {"out"}:
        return kind_of(find_config(base, Path(path.parent)), kinds)
    return max(kinds, key=lambda kind: len(plain.keys() & get_type_hints(kind)))


def _with_bases(
    kind: type, plain: dict[Any, Any], files: tuple[AnyPath, ...], key: str = ""
) -> dict[Any, Any]:
    """``plain`` with the keys that it leaves out filled in from its bases."""
    own = dict(plain)
    for name, section in get_type_hints(kind).items():
        if dataclasses.is_dataclass(section) and isinstance(own.get(name), dict):
            own[name] = _with_bases(section, own[name], files, f"{key}{name}.")  # type: ignore[arg-type]
    if "base" not in own:
        return own
    name = own.pop("base")
    if not isinstance(name, str):
        raise UserError(f"{files[-1]}: {key}base must be a config's name or path, not {name!r}")
    try:
        found = find_config(name, Path(files[-1].parent))
    except UserError as error:
        raise UserError(f"{files[-1]}: {key}base: {error}") from None
    return merged(to_plain(load_config(kind, found, files)), own)


def merged(old: dict[Any, Any], new: dict[Any, Any]) -> dict[Any, Any]:
    """``old`` updated by ``new``, section by section.

    >>> merged({"train": {"steps": 60, "warmup": 0.0}, "seed": 0}, {"train": {"steps": 5}})
    {'train': {'steps': 5, 'warmup': 0.0}, 'seed': 0}
    """
    both = {
        name: merged(old[name], value)
        if isinstance(value, dict) and isinstance(old.get(name), dict)
        else value
        for name, value in new.items()
    }
    return old | both


def read_yaml(path: AnyPath) -> dict[Any, Any]:
    """Reads a YAML 1.2 file whose top level is a mapping.

    Raises:
        UserError: the file cannot be read, is not valid YAML, or holds something else.
    """
    try:
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(missing(path, "file")) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {first_line(error)}") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(
            f"{path}{line}: not YAML: {getattr(error, 'problem', None) or one_line(error)}"
        ) from None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        # What ruamel.yaml raises for an impossible date, a key that is a list, or a thousand brackets.
        raise UserError(f"{path}: not YAML: {one_line(error)}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: must hold 'key: value' lines")
    return found


def from_plain(
    kind: type[Config], value: Any, where: str, key: str = "", default: Config | None = None
) -> Config:
    """Builds the dataclass ``kind`` from ``value``, which holds YAML's plain types.

    Args:
        where: the source of the value, for error messages.
        key: the dotted key at which the value stands; empty at the top level.
        default: has the values of keys that are left out; by default, they are those of ``kind``.

    Raises:
        UserError: a key is unknown or missing, or a value has the wrong type.
    """
    if not isinstance(value, dict):
        raise UserError(f"{where}: {key} must be a mapping of options, not {value!r}")
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    types_of = get_type_hints(kind)
    built = {}
    for given, item in value.items():
        name = RENAMED.get(given, given)
        full = f"{key}.{name}" if key else str(name)
        if name not in fields:
            raise UserError(f"{where}: unknown key '{full}'; {_meant(str(name), kind)}")
        inner = getattr(default, name) if default else _default(fields[name])
        built[name] = _convert(types_of[name], item, where, full, inner)
    missing = [
        f.name
        for f in fields.values()
        if default is None
        and f.default is dataclasses.MISSING
        and f.default_factory is dataclasses.MISSING
        and f.name not in built
    ]
    if missing:
        raise UserError(f"{where}: missing key '{missing[0]}'")
    try:
        return dataclasses.replace(default, **built) if default else kind(**built)  # type: ignore[type-var]
    except UserError as error:
        raise UserError(f"{where}: {key}{'.' if key else ''}{error}") from None


def _meant(name: str, kind: type) -> str:
    """The hint about an unknown key: the nearest known one, also of a section, or all of them."""
    own, inner = get_type_hints(kind), dict[str, str]()
    for section, each in own.items():
        for key in get_type_hints(each) if dataclasses.is_dataclass(each) else ():
            inner.setdefault(key, f"{section}.{key}")
    within = [] if get_close_matches(name, own) else get_close_matches(name, inner, n=1, cutoff=0.8)
    return f"did you mean '{inner[within[0]]}'?" if within else nearest(name, own)


def _default(field: dataclasses.Field) -> Any:
    """The default of a field; None where it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return None if field.default is dataclasses.MISSING else field.default


def _convert(kind: Any, value: Any, where: str, key: str, default: Any = None) -> Any:
    """Converts one value to the type of its field, or raises an error that says what was expected."""
    if dataclasses.is_dataclass(kind):
        return from_plain(kind, value, where, key, default)  # type: ignore[arg-type]
    origin = get_origin(kind)
    if origin is Literal:
        if isinstance(value, bool):  # a choice may be called true, which YAML takes for a boolean
            value = str(value).lower()
        if value not in get_args(kind):
            raise UserError(f"{where}: {key} is {value!r}; {nearest(str(value), map(str, get_args(kind)))}")
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise UserError(f"{where}: {key} must be a list, not {value!r}")
        return tuple(_convert(get_args(kind)[0], item, where, f"{key}[{i}]") for i, item in enumerate(value))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise UserError(f"{where}: {key} must be {_KINDS[kind]}, not {value!r}")
    return value


_KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def to_plain(config: Any) -> Any:
    """Converts a config, or a mapping of its options, to YAML's plain types.

    >>> to_plain({"seeds": range(2), "out": Path("runs")})
    {'seeds': [0, 1], 'out': 'runs'}
    """
    if dataclasses.is_dataclass(config):
        return {f.name: to_plain(getattr(config, f.name)) for f in dataclasses.fields(config)}
    if isinstance(config, Mapping):
        return {name: to_plain(value) for name, value in config.items()}
    if isinstance(config, (tuple, list, range)):
        return [to_plain(item) for item in config]
    return str(config) if isinstance(config, Path) else config


def dump_config(config: Any) -> str:
    """Writes a config as YAML text, which ``load_config`` reads back unchanged."""
    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.dump(to_plain(config), text)
    return text.getvalue()


def differences(old: Mapping[str, Any], new: Mapping[str, Any], key: str = "") -> list[str]:
    """Lists the dotted keys in which two plain configs differ, each with both values."""
    found = []
    for name in {**old, **new}:
        a, b, full = old.get(name), new.get(name), f"{key}{name}"
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{full}.")
        elif a != b:
            found.append(f"{full} is {a!r} there, {b!r} here")
    return found
