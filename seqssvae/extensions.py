"""Networks and estimators of modules of the user's own, by paths such as `package.module:name`."""

import importlib
import importlib.util
import inspect
import os
import re
import sys
from typing import Any

from seqssvae.errors import InputError

PATH = re.compile(r"[^\W\d]\w*(\.\w+)*:[^\W\d]\w*(\.\w+)*")

_known: dict[str, Any] = {}  # what was given as an object: its module need not be run again


def import_object(path: str, what: str) -> Any:
    """What an import path names; modules are also looked for in the working directory.

    Args:
        path: `package.module:name`.
        what: The setting, for errors.

    Raises:
        InputError: there is no such module, or it has no such name.
    """
    if path in _known:
        return _known[path]
    module, _, name = path.partition(":")
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise InputError(
            f"{what}: wanted {path} in the working directory, on PYTHONPATH or installed, got "
            f"{type(error).__name__}: {error}"
        ) from error
    return found


def call(path: str, what: str, *arguments: Any, **options: Any) -> Any:
    """Import and call.

    Args:
        path: As in `import_object`.
        what: The setting, for errors.
        arguments: Of the call.
        options: Of the call.

    Raises:
        InputError: as of `import_object`, or it takes other arguments.
    """
    function = import_object(path, what)
    try:
        inspect.signature(function).bind(*arguments, **options)
    except (TypeError, ValueError) as error:  # of what is no function, or one in C
        names = ", ".join([*(type(one).__name__ for one in arguments), *options])
        raise InputError(f"{what}: wanted {path} to take {names}, got: {error}") from error
    return function(*arguments, **options)


def path_of(value: Any, what: str) -> str:
    """The import path of a function or class, by which others find it.

    Args:
        value: The object; of a script that runs, of which the path is that of its file.
        what: The setting, for errors.

    Raises:
        InputError: it cannot be imported: a lambda, a function inside another, one of a notebook.
    """
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", "")
    path = f"{_name_of_script() if module == '__main__' else module}:{name}"
    if not PATH.fullmatch(path):
        raise InputError(
            f"{what}: wanted a function or class at the top of a .py file, by whose name a run can "
            f"be loaded again, got {value!r:.100}"
        )
    _known[path] = value
    return path


def _name_of_script() -> str:
    """The name under which the script or module that runs can be imported; else empty."""
    main = sys.modules["__main__"]
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return str(spec.name)
    name = "" if file is None else os.path.splitext(os.path.basename(file))[0]
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    is_same = found is not None and found.origin and os.path.samefile(found.origin, str(file))
    return name if is_same else ""
