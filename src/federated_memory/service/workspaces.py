"""Workspaces: register, list, and the overview that an agent reads first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from federated_memory.auth.caller import Caller
from federated_memory.auth.policy import REGISTRARS
from federated_memory.errors import InvalidArgument
from federated_memory.names import WorkspaceId, fold, parse_workspace_id, workspace_id_of
from federated_memory.service.core import Core
from federated_memory.service.knowledge import Knowledge
from federated_memory.service.pages import cut_text, decode_cursor, encode_cursor, fit_rows, json_bytes
from federated_memory.service.results import Overview, Registered, WorkspaceList, WorkspaceRow
from federated_memory.store.registry import Workspace, new_workspace

_MAX_NAME = 200
_MAX_DESCRIPTION = 2_000
_ROW_BYTES = 1_200
"""Room for one workspace beside an overview."""


class Workspaces:
    def __init__(self, core: Core, knowledge: Knowledge) -> None:
        self._core = core
        self._knowledge = knowledge

    def list(
        self,
        caller: Caller,
        *,
        machine: str = "",
        tool: str = "",
        project: str = "",
        limit: int,
        cursor: str | None = None,
        max_bytes: int,
    ) -> WorkspaceList:
        """The workspaces that the caller may read, by id; filters ignore case."""
        return self._page(caller, (machine, tool, project), limit, cursor, max_bytes, 0)

    def overview(
        self,
        caller: Caller,
        *,
        workspace_id: str = "",
        offset: int = 0,
        byte_offset: int = 0,
        limit: int,
        cursor: str | None = None,
        max_bytes: int,
    ) -> Overview:
        """The server's README, or (when a workspace is asked for) its whole overview; then the workspaces."""
        readme = "" if cursor or workspace_id else cut_text(self._core.root.read_top("README.md"), max_bytes // 4)
        room = max_bytes - min(_ROW_BYTES, max_bytes // 2)
        asked = None
        if workspace_id:
            asked = self._knowledge.read(
                caller, workspace_id, None, offset=offset, byte_offset=byte_offset, max_bytes=room
            )
        taken = json_bytes(readme) + (json_bytes(asked.model_dump_json()) if asked else 0)
        page = self._page(caller, ("", "", ""), limit, cursor, max_bytes, taken)
        return Overview(readme=readme, overview=asked, **dict(page))

    def _page(
        self, caller: Caller, wanted: tuple[str, str, str], limit: int, cursor: str | None, max_bytes: int, taken: int
    ) -> WorkspaceList:  # fmt: skip
        key = decode_cursor(cursor, "workspaces", str)
        after = str(key[0]) if key else ""
        visible = [
            workspace
            for workspace in self._core.policy.readable(caller, self._core.registry.all())
            if _matches(workspace, wanted)
        ]
        following = [workspace for workspace in visible if workspace.workspace_id > after]
        rows, more = fit_rows(self._rows(following), limit, max_bytes, taken)
        return WorkspaceList(
            workspaces=rows,
            total=len(visible),
            next_cursor=encode_cursor("workspaces", [rows[-1].workspace_id]) if more else None,
        )

    def _rows(self, workspaces: Iterable[Workspace]) -> Iterator[WorkspaceRow]:
        for workspace in workspaces:
            yield self.row(workspace)

    def row(self, workspace: Workspace) -> WorkspaceRow:
        database = self._core.root.database
        counts = database.row(
            "SELECT documents, sessions, last_activity FROM counts WHERE workspace_id = ?", workspace.workspace_id
        )
        overview = database.row(
            "SELECT title FROM documents WHERE workspace_id = ? AND kind = 'overview' AND deleted = 0",
            workspace.workspace_id,
        )
        documents, sessions, last_activity = counts or (0, 0, workspace.created_at)
        return WorkspaceRow(
            workspace_id=workspace.workspace_id,
            machine=workspace.machine,
            tool=workspace.tool,
            project=workspace.project,
            summary=(overview[0] if overview else "") or workspace.description[:200],
            documents=documents,
            sessions=sessions,
            last_activity=last_activity,
        )

    def register(
        self,
        caller: Caller,
        *,
        machine: str = "",
        tool: str = "",
        project: str = "",
        description: str = "",
        workspace_id: str = "",
        project_key: str = "",
    ) -> Registered:
        """Create the workspace if it is new; bind an AI caller, give the first sync caller its write token.

        Raises:
            InvalidArgument: A name is missing, too long, or holds control characters.
            Conflict: The id belongs to other names, or the session to another workspace.
            Forbidden: The token may not write that workspace.
        """
        policy, registry = self._core.policy, self._core.registry
        policy.ensure_role(caller, REGISTRARS)
        known = registry.find(parse_workspace_id(workspace_id)) if workspace_id else None
        if known is not None:
            machine, tool, project = machine or known.machine, tool or known.tool, project or known.project
        names = {"machine": machine or caller.machine, "tool": tool or caller.tool, "project": project}
        _ensure_names(names, description)
        wanted = new_workspace(
            parse_workspace_id(workspace_id) if workspace_id else workspace_id_of(**names),
            **names, description=description, project_key=project_key[:200], actor=caller.actor,
        )  # fmt: skip
        policy.ensure_may_write(caller, wanted)
        self._core.tombstones.ensure_none(wanted.workspace_id, "workspace")
        if caller.role != "sync":
            policy.ensure_may_bind(caller, wanted.workspace_id)
        workspace, created = registry.register(wanted, caller.actor)
        policy.ensure_may_write(caller, workspace)
        result = Registered(workspace_id=workspace.workspace_id, created=created)
        if caller.role == "sync":
            result.write_token = registry.give_write_token(workspace.workspace_id)
            if result.write_token is None:
                result.note = "Its write token was given before. Lost: an admin runs `workspace reissue`."
        else:
            result.binding = policy.bind(caller, workspace.workspace_id)
        return result

    def show(self, caller: Caller, workspace_id: str) -> WorkspaceRow:
        return self.row(self._core.policy.reader(caller, parse_workspace_id(workspace_id)))

    def reissue(self, caller: Caller, workspace_id: str) -> Registered:
        """A new write token; the old one ends at once. Admins only."""
        self._core.policy.ensure_role(caller, ("admin",))
        wanted: WorkspaceId = parse_workspace_id(workspace_id)
        token = self._core.registry.give_write_token(wanted, again=True)
        return Registered(workspace_id=wanted, created=False, write_token=token)


def _matches(workspace: Workspace, wanted: tuple[str, str, str]) -> bool:
    mine = (workspace.machine, workspace.tool, workspace.project)
    return all(not want or fold(have) == fold(want) for have, want in zip(mine, wanted, strict=True))


def _ensure_names(names: dict[str, str], description: str) -> None:
    missing = [name for name, value in names.items() if not value.strip()]
    if missing:
        raise InvalidArgument(
            f"{' and '.join(missing)} missing",
            hint="Pass machine (this computer's name), tool (such as claude-code) and project (the repository's name)",
        )
    for name, value in {**names, "description": description}.items():
        limit = _MAX_DESCRIPTION if name == "description" else _MAX_NAME
        if len(value) > limit:
            raise InvalidArgument(f"{name} is longer than {limit} characters", hint="Shorten it")
        if any(
            not character.isprintable() and not (name == "description" and character == "\n") for character in value
        ):
            raise InvalidArgument(f"{name} holds control characters", hint="Use one line of plain text")
