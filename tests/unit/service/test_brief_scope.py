"""Whose brief it is: never that of another project (SPEC: BRIEF-3 to BRIEF-5)."""

from __future__ import annotations

import re
import secrets

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federated_memory.errors import Forbidden, InvalidArgument, InvalidName, NotFound
from federated_memory.names import fold
from tests.unit.service.brief_rig import Rig, agent

LAPTOP = {"machine": "laptop", "tool": "codex", "project": "shop"}


@pytest.mark.spec("BRIEF-3")
def test_the_workspace_is_the_bound_one(rig: Rig) -> None:
    mine = rig.workspace("laptop")
    caller = agent()
    binding = rig.services.core.policy.bindings.issue(mine, caller.grant.fingerprint)

    by_binding = rig.brief(caller, binding=binding)
    session = agent(session="mcp-1")
    rig.services.core.policy.bind(session, rig.known(mine).workspace_id)
    by_session = rig.brief(session)

    for brief in (by_binding, by_session):
        assert (brief.workspace_id, brief.why) == (mine, "you are bound to it")


@pytest.mark.spec("BRIEF-3")
def test_the_workspace_is_the_only_one_of_the_token_unless_a_project_is_named(rig: Rig) -> None:
    mine = rig.workspace("laptop")
    caller = agent(write=(mine,))

    assert rig.brief(caller).workspace_id == mine
    assert rig.brief(caller).why == "the only workspace of your token"
    named = rig.brief(caller, machine="laptop", tool="codex", project="other")
    assert (named.workspace_id, "shop" in named.text) == (None, False)


@pytest.mark.spec("BRIEF-3")
def test_the_workspace_is_that_of_equal_names_whatever_their_case(rig: Rig) -> None:
    mine = rig.workspace("laptop")

    brief = rig.brief(machine="LapTop", tool="CODEX", project="Shop")

    assert (brief.workspace_id, brief.why) == (mine, "machine, tool and project are equal")


@pytest.mark.spec("BRIEF-3")
def test_the_workspace_of_a_renamed_folder_is_found_by_the_projects_key(rig: Rig) -> None:
    mine = rig.workspace("laptop", "old-name", key="k")

    brief = rig.brief(**{**LAPTOP, "project_keys": ("k",)})

    assert (brief.workspace_id, brief.why) == (mine, "the project key is equal")
    assert f'workspace_id="{mine}"' in brief.text


@pytest.mark.spec("BRIEF-3", "BRIEF-4")
def test_a_second_machine_gets_the_projects_brief_before_it_has_a_workspace(rig: Rig) -> None:
    rig.fill(rig.workspace("desk", key="k"), "mark")

    for workspace_id in ("", "laptop-codex-shop"):
        brief = rig.brief(**LAPTOP, project_keys=("k",), workspace_id=workspace_id)

        assert brief.workspace_id is None
        assert brief.why == "no workspace of yours yet; the project is known from elsewhere"
        assert 'register_workspace(machine="laptop", tool="codex", project="shop")' in brief.text
        assert all(part in brief.text for part in ("mark overview", "mark answered", "mark.md", "same project key"))


@pytest.mark.spec("BRIEF-4")
def test_the_same_name_counts_and_is_said_to_be_all_that_is_known(rig: Rig) -> None:
    rig.fill(rig.workspace("desk", "Shop"), "mark")

    brief = rig.brief(**LAPTOP, project_keys=("k",))

    assert "## Overview of desk-codex-shop (same name, another workspace)" in brief.text


@pytest.mark.spec("BRIEF-4", "BRIEF-5")
def test_a_name_that_two_projects_have_says_nothing(rig: Rig) -> None:
    rig.fill(rig.workspace("desk", key="one"), "mark")
    rig.fill(rig.workspace("tower", key="two"), "mark")
    rig.fill(rig.workspace("attic"), "mark")

    unknown_key = rig.brief(**LAPTOP, project_keys=("three",))
    no_key = rig.brief(**LAPTOP)

    assert "mark" not in unknown_key.text
    assert "First: register_workspace(" in unknown_key.text
    assert (no_key.text, no_key.workspace_id) == ("", None)
    assert no_key.why.startswith("Several projects have this name. Call register_workspace")
    assert sorted(no_key.candidates or ()) == ["attic-codex-shop", "desk-codex-shop", "tower-codex-shop"]


@pytest.mark.spec("BRIEF-4", "BRIEF-5")
def test_a_workspace_of_equal_names_and_another_key_is_another_projects(rig: Rig) -> None:
    mine = rig.workspace("laptop", key="one")
    rig.fill(mine, "mark")

    other = rig.brief(**LAPTOP, project_keys=("two",))
    former = rig.brief(**LAPTOP, project_keys=("two", "one"))

    assert (other.text, other.workspace_id) == ("", None)
    assert "another project's (its key differs)" in other.why
    assert former.workspace_id == mine


@pytest.mark.spec("BRIEF-4")
def test_a_former_key_finds_no_other_workspaces(rig: Rig) -> None:
    rig.fill(rig.workspace("desk", "other", key="path"), "mark")

    brief = rig.brief(**LAPTOP, project_keys=("remote", "path"))

    assert "mark" not in brief.text


@pytest.mark.spec("BRIEF-5")
def test_a_project_that_nobody_knows_gets_the_register_call_only(rig: Rig) -> None:
    rig.fill(rig.workspace("laptop", "other", key="k"), "mark")

    brief = rig.brief(**LAPTOP, project_keys=("new",))

    assert brief.why == "nothing is stored of this project yet"
    assert 'First: register_workspace(machine="laptop", tool="codex", project="shop").' in brief.text
    assert "mark" not in brief.text
    assert "other" not in brief.text.replace("what others stored", "")


@pytest.mark.spec("BRIEF-5")
def test_unsure_it_names_the_candidates_and_what_to_call(rig: Rig) -> None:
    mine = [rig.workspace("laptop", project) for project in ("shop", "till")]
    rig.workspace("desk", "shop")

    brief = rig.brief(machine="laptop", tool="codex")

    assert (brief.text, brief.workspace_id, brief.candidates) == ("", None, mine)
    assert "Call register_workspace, then get_brief with its `binding`" in brief.why


@pytest.mark.spec("BRIEF-3", "BRIEF-5")
@pytest.mark.parametrize("binding", ["nonsense", "fmb1.e30.x", "foreign"])
def test_a_binding_that_is_none_is_said_and_is_no_error(rig: Rig, binding: str) -> None:
    mine = rig.workspace("laptop")
    rig.fill(mine, "mark")
    if binding == "foreign":
        binding = rig.services.core.policy.bindings.issue(mine, "b" * 32)

    brief = rig.brief(binding=binding)

    assert brief.text == ""
    assert brief.why.startswith("`binding` ")


@pytest.mark.spec("BRIEF-3")
def test_an_id_asked_for_is_an_error_when_it_cannot_be_read(rig: Rig) -> None:
    rig.workspace("laptop")

    with pytest.raises(NotFound):
        rig.brief(workspace_id="nobody")
    with pytest.raises(Forbidden):
        rig.brief(agent(read=("desk-*",)), workspace_id="laptop-codex-shop")
    with pytest.raises(Forbidden):
        rig.brief(agent(read=("desk-*",)), workspace_id="laptop-codex-nothing", project="x")
    with pytest.raises(InvalidName):
        rig.brief(workspace_id="../x")


@pytest.mark.spec("BRIEF-3")
@pytest.mark.parametrize("name", ["machine", "tool", "project"])
@pytest.mark.parametrize("value", ["x" * 201, "a\nb", "a\x1b[1m", "a\u202eb"])
def test_names_that_none_can_have_are_refused_and_not_echoed(rig: Rig, name: str, value: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        rig.brief(**{**LAPTOP, name: value})

    assert name in caught.value.message
    assert value not in caught.value.message


@pytest.mark.spec("BRIEF-5")
def test_what_may_not_be_read_is_not_even_named(rig: Rig) -> None:
    mine, secret = rig.workspace("laptop", key="k"), rig.workspace("secret", key="k")
    rig.fill(secret, "mark")
    rig.workspace("secret", "shop", key="other", tool="gemini-cli")
    caller = agent(read=("laptop-*",))

    asked = [{"workspace_id": mine}, {**LAPTOP, "project_keys": ("k",)}, {"project": "shop"}, {"machine": "secret"}, {}]
    for given_ in asked:
        shown = rig.brief(caller, **given_).model_dump_json()
        assert "secret" not in shown
        assert "mark" not in shown
    bound = rig.services.core.policy.bindings.issue(secret, caller.grant.fingerprint)
    assert "secret" not in rig.brief(caller, binding=bound).model_dump_json()


@pytest.mark.spec("BRIEF-5")
def test_a_call_that_would_be_refused_is_not_offered(rig: Rig) -> None:
    mine = rig.workspace("laptop")

    for caller in (agent(write=("desk-*",)), agent(machine="desk")):
        assert "register_workspace(" not in rig.brief(caller, workspace_id=mine).text


NAMES = st.sampled_from(["shop", "Shop", "till"])
KEYS = st.sampled_from(["", "k1", "k2"])
MACHINES = st.sampled_from(["a", "b", "c"])


@pytest.mark.thorough
@pytest.mark.spec("BRIEF-4", "BRIEF-5")
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(MACHINES, NAMES, KEYS, st.booleans()), max_size=6),
    st.tuples(MACHINES, NAMES, KEYS),
)
def test_nothing_of_another_project_is_in_a_brief(
    rig: Rig, stored: list[tuple[str, str, str, bool]], asked: tuple[str, str, str]
) -> None:
    # A world of its own in each example: machine names that no other example has.
    world = f"w{secrets.token_hex(3)}"
    marks: dict[str, tuple[str, str, str, bool]] = {}
    for number, (machine, name, key, is_readable) in enumerate(stored):
        place = f"{world if is_readable else 'hidden'}-{machine}-{number}-{secrets.token_hex(3)}"
        mark = f"mark{number}x"
        rig.services.workspaces.register(
            agent(), machine=f"{world}{machine}", tool="codex", project=f"{world}-{name}",
            project_key=key and world + key, workspace_id=place,
        )  # fmt: skip
        rig.fill(place, mark)
        marks[mark] = (machine, name, key, is_readable)
    machine, name, key = asked

    text = rig.brief(
        agent(read=(f"{world}-*",)), max_bytes=65_536,
        machine=f"{world}{machine}", tool="codex", project=f"{world}-{name}",
        project_keys=(world + key,) if key else (),
    ).text  # fmt: skip

    shown = {marks[mark] for mark in re.findall(r"mark\dx", text)}
    assert all(is_readable for *_, is_readable in shown)
    if key:
        assert {other for _, _, other, _ in shown} <= {"", key}
    keys = {key, *(held for _, other, held, _ in shown if fold(other) == fold(name))} - {""}
    assert all(fold(other) == fold(name) or held in keys for _, other, held, _ in shown)
    # Whatever is shown is one project: no two keys together, also where none was given.
    assert len({held for _, _, held, _ in shown if held}) <= 1
    sure = [one for one in marks.values() if one[3] and key and one[2] == key]
    assert not (sure and not shown), "a workspace with the project's key is in its brief"
