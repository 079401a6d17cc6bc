"""Other programs' files: only the bytes that must change do, and what was added can be taken out again."""

from __future__ import annotations

import json
import sys
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EDITORS = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

HAND_MADE = """\ufeff{
\t// my servers
\t"mcpServers": {
\t\t"other": {"url": "http://other"}, // stays
\t\t/* the last one */
\t\t"odd": {"url": "x",},   /* and its note */ // and another
\t},

\t"theme" : "dark",
}
"""


@pytest.mark.spec("INST-2")
def test_a_member_is_added_and_everything_around_it_stays(sync: ModuleType) -> None:
    edited = sync.json_set(HAND_MADE, ["mcpServers", "memory"], {"url": "http://memory"})

    added = ',\n\t\t"memory": {\n\t\t\t"url": "http://memory"\n\t\t},'
    expected = HAND_MADE.replace(
        "// and another", '// and another\n\t\t"memory": {\n\t\t\t"url": "http://memory"\n\t\t}'
    )
    assert edited in (expected, HAND_MADE.replace("// and another", "// and another" + added[1:]))
    assert sync.json_get(edited, ["mcpServers", "memory", "url"]) == "http://memory"
    assert sync.json_remove(edited, ["mcpServers", "memory"]) == HAND_MADE


@pytest.mark.spec("INST-2")
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", '{\n  "a": {\n    "b": 1\n  }\n}\n'),
        ("{}", '{\n  "a": {\n    "b": 1\n  }\n}'),
        ('{"x":1}', '{"x":1,"a":{"b":1}}'),
        ('{"x": 1}\n', '{"x": 1, "a": {"b": 1}}\n'),
        ('{\r\n    "x": 1\r\n}\r\n', '{\r\n    "x": 1,\r\n    "a": {\r\n        "b": 1\r\n    }\r\n}\r\n'),
        ('{\n  "x": 1 // one\n}', '{\n  "x": 1, // one\n  "a": {\n    "b": 1\n  }\n}'),
        ('{\n  "a": {}\n}', '{\n  "a": {\n    "b": 1\n  }\n}'),
        ('{\n  "a": { /* none */ }\n}', '{\n  "a": { /* none */\n    "b": 1\n  }\n}'),
        ('{\n  "a": {"c": 2}\n}', '{\n  "a": {"c": 2, "b": 1}\n}'),
        ('{\n  "a": {"b": 2}\n}', '{\n  "a": {"b": 1}\n}'),
    ],
)
def test_what_is_added_has_the_form_of_what_is_there(sync: ModuleType, before: str, after: str) -> None:
    assert sync.json_set(before, ["a", "b"], 1) == after
    assert sync.json_set(after, ["a", "b"], 1) == after


@pytest.mark.spec("INST-5")
@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1',
        '{"a": 1} x',
        '{"a" 1}',
        '{"a": tru}',
        '{"a": 01}',
        "{'a': 1}",
        '{"a": "x}',
        '{"a": 1 "b": 2}',
        "{,}",
        "[1 2]",
        '{"a": {"b": 1, "b": 2}}',
        '{"a": [1]}',
        '{"a": 1}',
        "[]",
        "[" * 3000,
        '{"a": /* }',
    ],
)
def test_what_is_no_sound_json_object_is_left_alone(sync: ModuleType, text: str) -> None:
    with pytest.raises(sync.CannotEdit):
        sync.json_set(text, ["a", "b"], 3)


def test_a_fault_is_named_with_line_and_column(sync: ModuleType) -> None:
    with pytest.raises(sync.CannotEdit, match="line 3, column 3"):
        sync.parse_json('{\n  "a": 1\n  "b": 2\n}')


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-999, 999) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.sampled_from("abcd"), VALUES, max_size=4)
GAPS = st.sampled_from(["", " ", "\n", "\r\n  ", "\t", "// note\n", "/* a, } b */", "\n\n"])


@st.composite
def written(draw: st.DrawFn, values: st.SearchStrategy[Any] = DOCUMENTS) -> tuple[Any, str]:
    """A document and a text of it with comments, odd gaps and trailing commas."""

    def gap() -> str:
        return "".join(draw(st.lists(GAPS, max_size=2)))

    def text(value: Any) -> str:
        if not isinstance(value, (dict, list)):
            return json.dumps(value, ensure_ascii=draw(st.booleans()))
        opening, closing = "{}" if isinstance(value, dict) else "[]"
        keys = value.items() if isinstance(value, dict) else ((None, item) for item in value)
        parts = []
        for key, item in keys:
            label = "" if key is None else json.dumps(key) + gap() + ":"
            parts.append(gap() + label + gap() + text(item) + gap())
        tail = "," + gap() if parts and draw(st.booleans()) else ""
        return opening + ",".join(parts) + (tail if parts else gap()) + closing

    value = draw(values)
    return value, gap() + text(value) + gap()


@pytest.mark.thorough
@pytest.mark.spec("INST-2")
@EDITORS
@given(case=written(), path=st.lists(st.sampled_from("abx"), min_size=1, max_size=3), value=VALUES)
def test_any_text_holds_the_edit_and_nothing_else_changes(
    sync: ModuleType, case: tuple[Any, str], path: list[str], value: Any
) -> None:
    document, text = case
    assert sync.parse_json(text).plain() == document
    expected = json.loads(json.dumps(document))
    node = expected
    for key in path[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            with pytest.raises(sync.CannotEdit):
                sync.json_set(text, path, value)
            return
    was_there = path[-1] in node
    node[path[-1]] = value

    edited = sync.json_set(text, path, value)

    assert sync.parse_json(edited).plain() == expected
    assert comments(edited) == comments(text) or was_there  # comments within a replaced value go with it
    removed = sync.json_remove(edited, path)
    del node[path[-1]]
    assert sync.parse_json(removed).plain() == expected


@pytest.mark.thorough
@pytest.mark.spec("INST-4")
@EDITORS
@given(case=written(), value=VALUES)
def test_what_was_added_can_be_taken_out_again(sync: ModuleType, case: tuple[Any, str], value: Any) -> None:
    document, text = case
    if "new" in document or not document:
        return

    assert sync.json_remove(sync.json_set(text, ["new"], value), ["new"]) == text


def comments(text: str) -> int:
    return text.count("// note") + text.count("/* a, } b */")


@EDITORS
@given(case=written(st.fixed_dictionaries({"list": st.lists(VALUES, max_size=4)})), value=VALUES)
def test_items_are_added_to_arrays_and_removed_by_number(sync: ModuleType, case: tuple[Any, str], value: Any) -> None:
    document, text = case

    added = sync.json_append(text, ["list"], value)

    assert sync.json_get(added, ["list"]) == [*document["list"], value]
    for number in range(len(document["list"])):
        shorter = sync.json_remove(text, ["list", number])
        assert sync.json_get(shorter, ["list"]) == document["list"][:number] + document["list"][number + 1 :]


TOML = """\ufeff# my codex
model = "gpt" # the model
notes = \"\"\"
[mcp_servers.memory]
not a table\"\"\"
list = [
  "a]", # ]
  'b',
]

[mcp_servers.other] # another
url = 'http://[x]'

[[profiles]]
name = "one"

["quoted key"."a.b"]
x = { y = "}", z = [1, 2] }
"""


@pytest.mark.spec("INST-2")
def test_a_table_is_added_to_toml_and_everything_else_stays(sync: ModuleType) -> None:
    values = {"url": "http://memory/mcp", "http_headers": {"Authorization": 'Bearer "x" \\ ü', "X-A": "b"}}

    edited = sync.toml_set(TOML, ["mcp_servers", "memory"], values)

    assert edited.startswith(TOML)
    assert toml(edited)["mcp_servers"]["memory"] == values
    assert sync.toml_set(edited, ["mcp_servers", "memory"], values) == edited
    assert sync.toml_remove(edited, ["mcp_servers", "memory"]) == TOML


@pytest.mark.spec("INST-2")
def test_only_the_named_keys_of_a_toml_table_change(sync: ModuleType) -> None:
    text = TOML.replace("url = 'http://[x]'", "startup_timeout_sec = 5 # slow\nold = 1\nurl = 'http://[x]' # mine")

    edited = sync.toml_set(text, ["mcp_servers", "other"], {"url": "http://y", "new": True}, ["old"])

    assert edited == text.replace("old = 1\n", "").replace(
        "url = 'http://[x]' # mine\n", 'url = "http://y" # mine\nnew = true\n'
    )


@pytest.mark.spec("INST-4")
@pytest.mark.parametrize("ending", ["", "\n", "\n\n", "\r\n"])
def test_a_removed_table_leaves_the_text_as_it_was(sync: ModuleType, ending: str) -> None:
    text = "a = 1" + ending

    edited = sync.toml_set(text, ["mcp_servers", "memory"], {"url": "x"})
    edited += f'{sync._newline(text)}[mcp_servers.memory.tools.search]\napproval_mode = "approve"\n'

    assert sync.toml_remove(edited, ["mcp_servers", "memory"]).rstrip("\r\n") == "a = 1"


@pytest.mark.spec("INST-5")
@pytest.mark.parametrize(
    "text",
    [
        "mcp_servers = { memory = { url = 'x' } }",
        "mcp_servers.memory.url = 'x'",
        "[mcp_servers]\nmemory = { url = 'x' }",
        "[mcp_servers]\nmemory.url = 'x'",
        "[[mcp_servers]]\nname = 'x'",
        "[mcp_servers.memory.env]\nA = 'x'",
        "[mcp_servers.memory]\nurl = 'x'\n[mcp_servers.memory]\nurl = 'y'",
        "[mcp_servers.memory]\nurl = 'x'\n[mcp_servers.memory.http_headers]\nA = 'x'",
        "a = [1",
        'a = "x',
        "a = 1 b = 2",
        "[a",
        "= 1",
        "a = 1\na = 2",
        'a = """x',
    ],
)
def test_toml_that_cannot_be_spliced_is_left_alone(sync: ModuleType, text: str) -> None:
    with pytest.raises(sync.CannotEdit):
        sync.toml_set(text, ["mcp_servers", "memory"], {"url": "z", "http_headers": {"A": "y"}})


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs tomllib to compare with")
@EDITORS
@given(
    text=st.text(alphabet=st.sampled_from(list("ab.=\"'[]{}#\\ \n,1")), max_size=60),
    values=st.dictionaries(st.sampled_from(["url", "on"]), st.text(max_size=8) | st.booleans(), min_size=1),
)
def test_any_toml_holds_the_edit_or_is_refused(sync: ModuleType, text: str, values: dict[str, Any]) -> None:
    try:
        edited = sync.toml_set(text, ["mcp_servers", "memory"], values)
    except sync.CannotEdit:
        return
    assert toml(edited) == {**toml(text), "mcp_servers": {"memory": values}}
    assert sync.toml_remove(edited, ["mcp_servers", "memory"]).rstrip("\n") == text.rstrip("\n")


def toml(text: str) -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib")
    found: dict[str, Any] = tomllib.loads(text.removeprefix("\ufeff"))
    return found


@pytest.mark.spec("INST-2", "INST-4")
@pytest.mark.parametrize("text", ["", "mine\n", "mine", "mine\n\n", "mine\r\nmore\r\n"])
def test_marked_blocks_and_lines_come_and_go(sync: ModuleType, text: str) -> None:
    block = sync.set_block(text, "<b>", "<e>", "one\ntwo\n")
    line = sync.set_line(text, "# mark", "run it # mark")

    assert sync.set_block(block, "<b>", "<e>", "one\ntwo\n") == block
    assert sync.set_line(line, "# mark", "run it # mark") == line
    ending = "" if not text or text.endswith("\n") else "\n"
    assert sync.remove_block(block, "<b>", "<e>") == text + ending
    assert sync.remove_line(line, "# mark") == text + ending
    assert sync.set_block(block, "<b>", "<e>", "three") == block.replace(f"one{sync._newline(text)}two", "three")


@pytest.mark.spec("INST-5")
@pytest.mark.parametrize("text", ["<b>\nx", "<e>\n<b>", "<b><e><b><e>"])
def test_a_block_with_a_lost_mark_is_left_alone(sync: ModuleType, text: str) -> None:
    with pytest.raises(sync.CannotEdit):
        sync.set_block(text, "<b>", "<e>", "x")
