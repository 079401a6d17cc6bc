"""Whose brief it is: the workspace, the others of its project, and why (SPEC: BRIEF-3 to BRIEF-5).

A brief of the wrong project is worse than none. So a project is known by its workspace or by its key; by its name only
while no two projects that the caller may read share that name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from federated_memory.auth.caller import Caller
from federated_memory.auth.policy import REGISTRARS
from federated_memory.errors import InvalidArgument, NotBound
from federated_memory.names import fold, parse_workspace_id, workspace_id_of
from federated_memory.service.core import Core
from federated_memory.store.registry import Workspace

_MAX_NAME = 200
_MAX_CANDIDATES = 5
_BY_KEY, _BY_NAME = "same project key", "same name"
_ASK = "Call register_workspace, then get_brief with its `binding`; or pass workspace_id"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a caller tells of itself; everything may be empty.

    `project_keys`: the project's key, then those it may have been registered under before (a repository that had no
    commit or no remote yet). The former ones tell its own workspace from another one's, and find nothing else.
    """

    workspace_id: str = ""
    machine: str = ""
    tool: str = ""
    project: str = ""
    project_keys: tuple[str, ...] = ()
    binding: str = ""

    @property
    def names_project(self) -> bool:
        return bool(self.project or self.project_keys)

    @property
    def key(self) -> str:
        return self.project_keys[0] if self.project_keys else ""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a brief is about. Unsure: neither a workspace nor a project, and `candidates` to choose from."""

    why: str
    own: Workspace | None = None
    related: Sequence[tuple[Workspace, str]] = ()
    """Others of the same project, and how that is known."""
    register: dict[str, str] = field(default_factory=dict)
    """The arguments of the `register_workspace` call to make; empty when there is none."""
    candidates: Sequence[str] = ()

    @property
    def is_unsure(self) -> bool:
        return self.own is None and not self.related and not self.register


def scope_of(core: Core, caller: Caller, asked: Asked) -> Scope:
    """Only workspaces that the caller may read count, also where names are compared.

    Raises:
        InvalidArgument: A name is too long, or holds control characters.
        Forbidden, NotFound: The workspace that was asked for by its id.
    """
    _ensure_names(asked)
    return _Finder(core, caller, asked).find()


class _Finder:
    def __init__(self, core: Core, caller: Caller, asked: Asked) -> None:
        self._policy = core.policy
        self._registry = core.registry
        self._caller = caller
        self._asked = asked
        self._machine = asked.machine or caller.machine or caller.grant.machine
        self._tool = asked.tool or caller.tool
        self._visible = core.policy.readable(caller, core.registry.all())

    def find(self) -> Scope:
        asked = self._asked
        own, why = self._named()
        if own is None and asked.names_project:
            return self._by_project(why)
        if own is None and (only := self._caller.grant.only_workspace):
            own, why = self._readable(only), "the only workspace of your token"
        if own is not None:
            return Scope(
                why, own, self._related(own, own.project_key or asked.key, own.project), self._registration(own)
            )
        return self._unsure(why or "No workspace is named or bound", self._of_this_agent())

    def _named(self) -> tuple[Workspace | None, str]:
        """The workspace that was asked for by id, or that the caller is bound to; else what there is to say of it."""
        wanted, caller = self._asked.workspace_id, self._caller
        if wanted:
            workspace_id = parse_workspace_id(wanted)
            # A client may know the id that its workspace is going to have.
            is_new = caller.grant.reads(workspace_id) and self._registry.find(workspace_id) is None
            if not (is_new and self._asked.names_project):
                return self._policy.reader(caller, workspace_id), "you asked for it"
            return None, ""
        bindings = self._policy.bindings
        if self._asked.binding:
            try:
                bound = bindings.parse(self._asked.binding, caller.grant.fingerprint)
            except NotBound as error:
                return None, error.message
        else:
            held = bindings.of_session(caller.session)
            if held is None:
                return None, ""
            bound = held
        found = self._readable(bound.workspace_id)
        return (found, "you are bound to it") if found else (None, "Your token may not read what you are bound to")

    def _by_project(self, note: str) -> Scope:
        asked = self._asked
        exact = [w for w in self._visible if w.is_same(self._machine, self._tool, asked.project)]
        own, why = self._own_of(exact)
        if own is not None:
            return Scope(
                why, own, self._related(own, asked.key or own.project_key, asked.project), self._registration(own)
            )
        related = self._related(None, asked.key, asked.project)
        names = {"machine": self._machine, "tool": self._tool, "project": asked.project}
        register = names if all(names.values()) and not exact else {}
        is_taken = bool(exact) and bool(asked.project_keys)
        taken = "the workspace of your names is another project's (its key differs): use another project name"
        if related:
            why = taken if is_taken else "no workspace of yours yet; the project is known from elsewhere"
        elif is_taken:
            return self._unsure(taken[0].upper() + taken[1:], ())
        elif not asked.project_keys and self._is_ambiguous(asked.project):
            return self._unsure(note or "Several projects have this name", self._same_name(asked.project))
        elif register:
            why = note or "nothing is stored of this project yet"
        else:
            return self._unsure(note or "Nothing is known of this project", self._of_this_agent())
        return Scope(why, None, related, register if self._may_register(register) else {})

    def _own_of(self, exact: Sequence[Workspace]) -> tuple[Workspace | None, str]:
        """This agent's workspace of the project: by its names unless its key says otherwise, else by its key."""
        keys = self._asked.project_keys
        agreeing = [w for w in exact if w.project_keys & set(keys)] or [
            w for w in exact if not (w.project_key and keys)
        ]
        if own := self._only(agreeing):
            return own, "machine, tool and project are equal"
        if not agreeing and keys:
            mine = [
                w
                for w in self._visible
                if keys[0] in w.project_keys
                and fold(w.machine) == fold(self._machine)
                and fold(w.tool) == fold(self._tool)
            ]
            if own := self._only(mine):
                return own, "the project key is equal"
        return None, ""

    def _only(self, found: Sequence[Workspace]) -> Workspace | None:
        """The one there is; of several, the one whose id is made of its names."""
        if len(found) > 1:
            found = [w for w in found if w.workspace_id == workspace_id_of(w.machine, w.tool, w.project)]
        return found[0] if len(found) == 1 else None

    def _related(self, own: Workspace | None, key: str, name: str) -> list[tuple[Workspace, str]]:
        others = [w for w in self._visible if own is None or w.workspace_id != own.workspace_id]
        by_key = [(w, _BY_KEY) for w in others if key and w.project_key == key]
        same_name = self._same_name(name)
        known_keys = {key, *self._asked.project_keys, own.project_key if own else ""} - {""}
        other_keys = {w.project_key for w in same_name if w.project_key} - known_keys
        if other_keys and (known_keys or len(other_keys) > 1):
            return by_key  # the name is another project's too
        known = {w.workspace_id for w, _ in by_key} | {own.workspace_id if own else ""}
        return by_key + [
            (w, _BY_NAME) for w in same_name if w.workspace_id not in known and not (key and w.project_key)
        ]

    def _same_name(self, project: str) -> list[Workspace]:
        wanted = fold(project)
        return [w for w in self._visible if fold(w.project) == wanted] if project else []

    def _is_ambiguous(self, project: str) -> bool:
        return len({w.project_key for w in self._same_name(project) if w.project_key}) > 1

    def _of_this_agent(self) -> list[Workspace]:
        return [
            w
            for w in self._visible
            if (not self._machine or fold(w.machine) == fold(self._machine))
            and (not self._tool or fold(w.tool) == fold(self._tool))
        ]

    def _readable(self, workspace_id: str) -> Workspace | None:
        return self._registry.find(workspace_id) if self._caller.grant.reads(workspace_id) else None

    def _registration(self, own: Workspace) -> dict[str, str]:
        names = {"machine": own.machine, "tool": own.tool, "project": own.project, "workspace_id": own.workspace_id}
        return names if self._may_register(names) else {}

    def _may_register(self, names: dict[str, str]) -> bool:
        """Whether the call would be allowed; a sync caller asks for an agent whose rights are not known here."""
        grant = self._caller.grant
        if not names or grant.role not in REGISTRARS:
            return False
        wanted = names.get("workspace_id") or workspace_id_of(**names)
        is_here = not grant.machine or fold(grant.machine) == fold(names["machine"])
        return grant.role == "sync" or (grant.writes(wanted) and is_here)

    def _unsure(self, why: str, candidates: Iterable[Workspace]) -> Scope:
        found = [w.workspace_id for w in candidates]
        return Scope(f"{why.rstrip('.')}. {_ASK}", candidates=found[:_MAX_CANDIDATES])


def _ensure_names(asked: Asked) -> None:
    names = {"machine": asked.machine, "tool": asked.tool, "project": asked.project}
    for name, value in [*names.items(), *(("project_key", key) for key in asked.project_keys)]:
        if len(value) > _MAX_NAME:
            raise InvalidArgument(f"{name} is longer than {_MAX_NAME} characters", hint="Shorten it")
        if not value.isprintable():
            raise InvalidArgument(f"{name} holds control characters", hint="Use one line of plain text")
