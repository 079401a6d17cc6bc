"""Schemas made smaller without saying less (SPEC: TOOL-3)."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, TypeAdapter, create_model

from federated_memory.errors import Conflict, InvalidArgument
from federated_memory.service import results
from federated_memory.tools.toolkit import compact_schema, error_result


@pytest.mark.spec("TOOL-3")
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (str | None, {"type": "string"}),
        (
            Annotated[str | None, Field(max_length=3, description="d")],
            {"type": "string", "maxLength": 3, "description": "d"},
        ),
        (
            Annotated[Literal["a", "b"] | None, Field(description="d")],
            {"enum": ["a", "b"], "type": "string", "description": "d"},
        ),
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (dict[str, Any] | None, {"additionalProperties": True, "type": "object"}),
    ],
)
def test_a_null_union_becomes_its_one_member(kind: Any, expected: dict[str, Any]) -> None:
    assert compact_schema(TypeAdapter(kind).json_schema()) == expected


@pytest.mark.spec("TOOL-3")
def test_titles_go_but_a_property_of_that_name_stays() -> None:
    model = create_model("Thing", title=(str, ""), default=(int, 5), none=(str | None, None))

    found = compact_schema(model.model_json_schema())

    assert found == {
        "type": "object",
        "properties": {
            "title": {"type": "string"},
            "default": {"type": "integer", "default": 5},
            "none": {"type": "string"},
        },
    }


@pytest.mark.spec("TOOL-3")
@pytest.mark.parametrize("kind", results.Result.__subclasses__())
def test_a_small_schema_describes_the_same_fields(kind: type[results.Result]) -> None:
    whole = kind.model_json_schema()
    small = compact_schema(whole)

    assert small["properties"].keys() == whole["properties"].keys()
    assert small.get("required") == whole.get("required")
    assert len(json.dumps(small)) < len(json.dumps(whole))
    assert compact_schema(small) == small


@pytest.mark.spec("ERR-1")
@pytest.mark.parametrize("error", [Conflict("It changed", hint="Read it", etag="0" * 64), InvalidArgument("No")])
def test_an_error_result_has_both_forms(error: Conflict | InvalidArgument) -> None:
    found = error_result(error)

    assert found.is_error
    assert found.structured_content == {
        "error": {
            "code": error.code,
            "message": error.message,
            **({"hint": error.hint} if error.hint else {}),
            **error.facts,
        }
    }
    assert found.content[0].text.startswith(f"{error.code}: {error.message}")  # type: ignore[union-attr]
