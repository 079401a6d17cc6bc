"""JSON Schema for shared values: Draft 2020-12, RE2 for patterns, local references, bounded work (SPEC: STATE-6).

The validator is loaded when the first schema is.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import orjson
import re2

from federated_memory.errors import InvalidArgument, TooLarge

MAX_SCHEMA_BYTES = 64 * 1024
MAX_DEPTH = 64
_MOST_STEPS = 50_000
"""Keywords looked at for one value; a schema that refers to itself twice would take for ever without a limit."""
_MOST_VIOLATIONS = 20
_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_REFUSED = ("$id", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$vocabulary")
_SHOWN = 120
_NAMES = frozenset({"properties", "$defs", "definitions", "patternProperties", "dependentSchemas"})
"""Keywords whose members are named by the schema's author."""
_DATA = frozenset({"const", "enum", "default", "examples"})


@dataclass(frozen=True, slots=True)
class Violation:
    """`path` is a JSON pointer into the value, `reason` the keyword that does not hold and what it asks for."""

    path: str
    reason: str


class _TooMuch(Exception):
    pass


_work = threading.local()


def parse_schema(given: object) -> bytes:
    """The schema as it is kept.

    Raises:
        InvalidArgument: No valid schema of Draft 2020-12, or one that reaches outside, nests too deep, or has a pattern
            that RE2 does not know; the message says where.
        TooLarge: Over 64 KiB.
    """
    if not isinstance(given, dict | bool):
        raise InvalidArgument("A schema is a JSON object, true or false", hint='Such as {"type": "integer"}')
    text = dump_json(given, "schema")
    if len(text) > MAX_SCHEMA_BYTES:
        raise TooLarge(f"The schema is over {MAX_SCHEMA_BYTES} bytes", hint="Make it smaller, or split the keys")
    if isinstance(given, dict) and given.get("$schema", _DIALECT) not in (_DIALECT, _DIALECT + "#"):
        raise InvalidArgument("Not a schema of Draft 2020-12", hint=f"Leave $schema out, or set it to {_DIALECT}")
    _ensure_local(given)
    from jsonschema import Draft202012Validator

    problem = next(iter(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(given)), None)
    if problem is not None:
        where = _pointer(problem.absolute_path)
        raise InvalidArgument(f"Not a valid JSON Schema, at {where or '/'}: {problem.validator} does not hold",
                              hint="See https://json-schema.org/draft/2020-12", path=where)  # fmt: skip
    _ensure_references(given)
    return text


def dump_json(value: object, what: str) -> bytes:
    """The value as JSON. Raises: InvalidArgument: it is none that can be kept."""
    ensure_depth(value, what)
    try:
        return orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise InvalidArgument(
            f"The {what} cannot be kept as JSON", hint="Text must be Unicode, whole numbers fit in 64 bits"
        ) from None


def ensure_depth(value: object, what: str) -> None:
    """Raises: InvalidArgument: nested too deep, or a number that JSON has not."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if any(isinstance(item, float) and not math.isfinite(item) for item in level):
            raise InvalidArgument(f"The {what} has a number that is not finite", hint="JSON has no NaN or infinity")
        level = [
            inner
            for item in level
            if isinstance(item, dict | list)
            for inner in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return
    raise InvalidArgument(f"The {what} is nested deeper than {MAX_DEPTH} levels", hint="Make it flatter")


def violations(text: bytes, value: object) -> list[Violation]:
    """What of the schema the value does not hold: at most some, in the order of the schema."""
    validator = _validator(text)
    found = []
    _work.left = _MOST_STEPS
    try:
        for problem in validator.iter_errors(value):
            found.append(Violation(_pointer(problem.absolute_path), _reason(problem)))
            if len(found) >= _MOST_VIOLATIONS:
                break
    except _TooMuch:
        found.append(Violation("", f"the schema takes more than {_MOST_STEPS:,} steps on this value"))
    except RecursionError:
        found.append(Violation("", "the schema refers to itself without end"))
    return found


def _reason(problem: Any) -> str:
    """In the schema's words: a message never repeats a value."""
    if problem.validator == "required":
        missing = [name for name in problem.validator_value if name not in problem.instance]
        return f"required: {_short(missing)} missing"
    if problem.validator is None:
        return "the schema is false: nothing is allowed here"
    if problem.validator in ("additionalProperties", "unevaluatedProperties", "unevaluatedItems", "propertyNames"):
        return f"{problem.validator}: one that the schema does not allow"
    return f"{problem.validator}: {_short(problem.validator_value)}"


def _short(value: object) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _pointer(parts: Any) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1")[:_SHOWN] for part in parts)


def _subschemas(schema: object, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every object that is a schema, with its place."""
    if isinstance(schema, list):
        for number, inner in enumerate(schema):
            yield from _subschemas(inner, f"{where}/{number}")
    elif isinstance(schema, dict):
        yield where, schema
        for key, inner in schema.items():
            if key in _NAMES and isinstance(inner, dict):
                for name, named in inner.items():
                    yield from _subschemas(named, f"{where}/{key}/{name[:_SHOWN]}")
            elif key not in _DATA:
                yield from _subschemas(inner, f"{where}/{key}")


def _ensure_local(root: object) -> None:
    """Nothing in the schema reaches outside of it, and every pattern is one of RE2."""
    keywords: set[str] = set()
    for where, schema in _subschemas(root, ""):
        keywords |= schema.keys()
        for key in _REFUSED:
            if key in schema:
                raise InvalidArgument(
                    f"{key} is not supported, at {where or '/'}", hint="Use $defs and local $ref", path=where
                )
        reference = schema.get("$ref", "#")
        if not isinstance(reference, str) or not reference.startswith("#"):
            raise InvalidArgument(
                f"$ref points outside of the schema, at {where or '/'}", hint="Use #/$defs/…", path=where
            )
        patterns = schema.get("patternProperties")
        for pattern in (schema.get("pattern"), *(patterns if isinstance(patterns, dict) else ())):
            if isinstance(pattern, str):
                _ensure_pattern(pattern, where)
    if {"unevaluatedProperties", "patternProperties"} <= keywords:  # the validator would take Python's patterns here
        raise InvalidArgument(
            "unevaluatedProperties together with patternProperties is not supported", hint="Use additionalProperties"
        )


def _ensure_references(root: object) -> None:
    """Every `$ref` points to something that is there."""
    for where, schema in _subschemas(root, ""):
        if "$ref" in schema:
            _ensure_reference(schema["$ref"], root, where)


def _ensure_reference(reference: str, root: object, where: str) -> None:
    from referencing import Registry
    from referencing.exceptions import Unresolvable
    from referencing.jsonschema import DRAFT202012

    resource = DRAFT202012.create_resource(root)
    try:
        found = Registry().with_resource("", resource).resolver("").lookup(reference).contents
    except (Unresolvable, ValueError, TypeError, LookupError, AttributeError):
        found = None
    if not isinstance(found, dict | bool):
        raise InvalidArgument(f"$ref points to nothing, at {where}", hint="Define it under $defs", path=where)


def _ensure_pattern(pattern: str, where: str) -> None:
    try:
        _regex(pattern)
    except re2.error:
        raise InvalidArgument(
            f"Not a pattern that RE2 knows, at {where}", hint="No look-around and no back-references", path=where
        ) from None


@lru_cache(maxsize=256)
def _regex(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    return re2.compile(pattern, options)


@lru_cache(maxsize=256)
def _validator(text: bytes) -> Any:
    from referencing import Registry

    return _validator_class()(orjson.loads(text), registry=Registry())


@lru_cache(maxsize=1)
def _validator_class() -> Any:
    """Draft 2020-12 with every keyword counted, and without Python's regular expressions."""
    from jsonschema import Draft202012Validator
    from jsonschema.validators import extend

    own = {
        "pattern": _pattern, "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties, "uniqueItems": _unique_items,
    }  # fmt: skip
    keywords = {name: _counted(own.get(name, function)) for name, function in Draft202012Validator.VALIDATORS.items()}
    return extend(Draft202012Validator, keywords)


def _counted(function: Callable[..., Any]) -> Callable[..., Any]:
    def counted(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[Any]:
        _work.left -= 1 + (len(wanted) if isinstance(wanted, list | dict) else 0)
        if _work.left < 0:
            raise _TooMuch
        yield from function(validator, wanted, instance, schema) or ()

    return counted


def _pattern(validator: Any, pattern: str, instance: Any, _: Any) -> Iterator[Any]:
    if validator.is_type(instance, "string") and not _regex(pattern).search(instance):
        yield _error("pattern")


def _pattern_properties(validator: Any, patterns: dict[str, Any], instance: Any, _: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, schema in patterns.items():
        for name, value in instance.items():
            if _regex(pattern).search(name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: dict[str, Any]) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name in instance:
        if name in known or any(_regex(pattern).search(name) for pattern in patterns):
            continue
        if wanted is False:
            yield _error("additionalProperties")
            return
        yield from validator.descend(instance[name], wanted, path=name)


def _unique_items(validator: Any, wanted: bool, instance: Any, _: Any) -> Iterator[Any]:
    if wanted and validator.is_type(instance, "array"):
        seen = {_canonical(item) for item in instance}
        if len(seen) != len(instance):
            yield _error("uniqueItems")


def _canonical(value: Any) -> Any:
    """Equal for values that JSON Schema holds equal: 1 and 1.0 are, 1 and true are not."""
    if isinstance(value, dict):
        return ("object", frozenset((name, _canonical(inner)) for name, inner in value.items()))
    if isinstance(value, list):
        return ("array", tuple(_canonical(inner) for inner in value))
    return (isinstance(value, bool), value)


def _error(keyword: str) -> Any:
    from jsonschema import ValidationError

    return ValidationError(keyword)
