"""YAML whose values are what they look like, and whose mistakes are one line.

YAML 1.1, which PyYAML reads, takes 010 for 8, 1:30 for 90 and 1e-3 for a text, and a key that
stands twice silently loses its first value. Here numbers are decimal, as in JSON and YAML 1.2,
dates are texts, and a key that stands twice is an error.
"""

import re
from typing import Any, ClassVar

import yaml

__all__ = ["read_yaml"]

FLOAT = (
    r"([-+]?([0-9]+\.?|[0-9]*\.[0-9]+)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
)


def read_yaml(text: str) -> Any:
    """Read one YAML document; an empty one is None.

    Raises:
        ValueError: it is none; the message is one line.
    """
    try:
        return yaml.load(text, _Loader)
    except Exception as error:  # PyYAML lets through what int(), recursion and others raise
        line = " ".join(str(error).split())
        raise ValueError(f"{line:.200}") from error


class _Loader(yaml.SafeLoader):  # type: ignore[misc] # PyYAML has no types
    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node, if no key stands twice."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key.value!r:.80} twice", key.start_mark
                    )
                seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


for _tag, _pattern, _first in (
    ("bool", r"(?i:true|false|yes|no|on|off)$", "tTfFyYnNoO"),
    ("null", r"(~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("int", r"[-+]?(0|[1-9][0-9]*)$", "-+0123456789"),
    ("float", FLOAT, "-+.0123456789"),
    ("merge", r"<<$", "<"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
