"""Settings by name: a config with some of them changed, as by a YAML file or a command line."""

import contextlib
import dataclasses
import difflib
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping
from reprlib import repr as brief
from typing import Any, Literal

from seqssvae.config import Config, ImportPath, ObjectiveConfig, list_settings
from seqssvae.errors import InputError
from seqssvae.extensions import PATH, path_of

CONSTANTS = {"": None, "~": None, "null": None, "none": None} | {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")


def to_mapping(config: Config) -> dict[str, dict[str, Any]]:
    """Nested plain dicts, for YAML and JSON."""
    return {
        section: {
            name.rstrip("_"): list(value) if isinstance(value, tuple) else value
            for name, value in settings.items()
        }
        for section, settings in dataclasses.asdict(config).items()
    }


def as_config(config: Config | Mapping[str, Any] | None) -> Config:
    """A config, or one with the settings of a mapping, as of `override`; None: the defaults."""
    return config if isinstance(config, Config) else override(Config(), config or {})


def with_class(config: Config | Mapping[str, Any], build: Any) -> Config | Mapping[str, Any]:
    """Settings whose `model.class` is a function or its path; the same ones for None."""
    if build is None:
        return config
    change = {"model.class": build}
    return override(config, change) if isinstance(config, Config) else {**config, **change}


def override(config: Config, changes: Any, *, where: str = "") -> Config:
    """A copy with some settings changed.

    `objective.kl_warmup_steps` is at most a third of `training.num_steps`, unless it is set.

    Args:
        config: Settings to start from.
        changes: `{"model": {"cell": "gru"}}`, or dotted keys `{"model.cell": "gru"}`. Values may
            be texts, as in a command line: `{"training.num_steps": "100"}`, and functions and
            classes where a setting is an import path.
        where: Prefix of every error, for instance the file's name.

    Raises:
        InputError: an unknown key, with the nearest known one; a value of the wrong type.

    Example:
        >>> seqssvae.override(seqssvae.Config(), {"model.cell": "gru"}).model.cell
        'gru'
    """
    known = {one.key: one for one in list_settings()}
    sections = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if not isinstance(changes, Mapping):
        raise InputError(f"{where}wanted a mapping of settings, got {brief(changes)}")
    seen: set[str] = set()
    for key, value in _flatten(changes, sections, where):
        if key in seen:  # `model.cell: gru` beside `model: {cell: lstm}`
            raise InputError(f"{where}{key}: wanted it once, got it twice")
        seen.add(key)
        if key not in known:
            near = difflib.get_close_matches(key, known, 1, 0.4)
            hint = f", did you mean {near[0]}?" if near else f"; sections are {', '.join(sections)}"
            raise InputError(f"{where}unknown setting {key:.80}{hint}")
        one = known[key]
        try:
            value = path_of(value, key) if one.is_path and callable(value) else value
            change = {one.field: _convert(value, one.type)}
        except (ValueError, OverflowError):
            got = brief(value)
            raise InputError(f"{where}{key}: wanted {one.values}, got {got}") from None
        sections[one.section] = dataclasses.replace(sections[one.section], **change)
    usual, steps = ObjectiveConfig.kl_warmup_steps, sections["training"].num_steps
    is_set = "objective.kl_warmup_steps" in seen or sections["objective"].kl_warmup_steps != usual
    if "training.num_steps" in seen and not is_set and usual > steps // 3 >= 0:
        fewer = {"kl_warmup_steps": steps // 3}
        sections["objective"] = dataclasses.replace(sections["objective"], **fewer)
    try:
        return Config(**sections)
    except InputError as error:
        raise InputError(f"{where}{error}") from None


def _flatten(
    changes: Mapping[str, Any], sections: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Any]]:
    for key, value in changes.items():
        if key in sections:
            if not isinstance(value, Mapping):
                raise InputError(f"{where}{key}: wanted settings below it, got {brief(value)}")
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        else:
            yield str(key), value


def _convert(value: Any, hint: Any) -> Any:
    """Convert a value, or the text of one, to a setting's type.

    Raises:
        ValueError: it does not fit.
        OverflowError: an integer that is too large for a float.
    """
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        for option in sorted(options, key=lambda option: option is not types.NoneType):
            with contextlib.suppress(ValueError):
                return _convert(value, option)
    elif origin is Literal:
        if isinstance(value, str) and value in options:
            return value
    elif hint is ImportPath:
        if isinstance(value, str) and PATH.fullmatch(value):
            return value
    elif origin is tuple:
        if isinstance(value, str) and value[:1] + value[-1:] == "[]":
            try:
                value = json.loads(value)
            except ValueError:  # texts without quotes
                value = [item.strip() for item in value[1:-1].split(",")]
        if isinstance(value, list | tuple):
            return tuple(_convert(item, options[0]) for item in value)
    else:
        if isinstance(value, str) and hint is not str:
            value = _parse_scalar(value)
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
            return value
    raise ValueError(f"wanted {hint}, got {brief(value)}")


def _parse_scalar(text: str) -> Any:
    """The constant or decimal number that a text says, or the text itself."""
    if text.lower() in CONSTANTS:
        return CONSTANTS[text.lower()]
    if not NUMBER.fullmatch(text):
        return text
    if text.lstrip("+-").isdigit():
        return int(text)
    number = float(text)
    return int(number) if number.is_integer() and "." not in text else number  # 1e3
