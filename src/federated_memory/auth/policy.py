"""The one place that decides who may do what (SPEC: AUTH-5 to AUTH-8, BIND-3, BIND-4)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fnmatch import fnmatchcase

from federated_memory.auth.binding import Bindings
from federated_memory.auth.caller import Caller, Role
from federated_memory.auth.events import auth_deny, auth_fail
from federated_memory.errors import Conflict, FederatedMemoryError, Forbidden, NotBound
from federated_memory.names import WorkspaceId, fold, parse_workspace_id
from federated_memory.store.registry import Registry, Workspace

WRITERS: tuple[Role, ...] = ("ai", "admin")
UPLOADERS: tuple[Role, ...] = ("sync", "admin")
KEY_READERS: tuple[Role, ...] = ("ai", "read", "admin")
REGISTRARS: tuple[Role, ...] = ("ai", "sync", "admin")


class Policy:
    """Every check logs its refusal: `AUTH_FAIL` for a wrong secret, `AUTH_DENY` for the rest."""

    def __init__(self, registry: Registry, bindings: Bindings) -> None:
        self._registry = registry
        self.bindings = bindings

    def ensure_role(self, caller: Caller, roles: Iterable[Role]) -> None:
        """Raises: Forbidden: the caller's token has none of these roles."""
        allowed = tuple(roles)
        if caller.role not in allowed:
            raise self._denied(
                caller,
                "role",
                Forbidden(f"A token of role {caller.role} may not do this", hint="It takes " + " or ".join(allowed)),
            )

    def readable(self, caller: Caller, workspaces: Iterable[Workspace]) -> list[Workspace]:
        return [workspace for workspace in workspaces if caller.grant.reads(workspace.workspace_id)]

    def chosen(self, caller: Caller, workspace_id: str, tool: str) -> list[Workspace]:
        """One workspace, or (an empty id) all that the caller may read; those of one tool, if it is given."""
        if workspace_id:
            found = [self.reader(caller, parse_workspace_id(workspace_id))]
        else:
            found = self.readable(caller, self._registry.all())
        return [workspace for workspace in found if not tool or fold(workspace.tool) == fold(tool)]

    def reader(self, caller: Caller, workspace_id: str) -> Workspace:
        """The workspace, for a caller that may read it.

        Raises:
            Forbidden: Outside the token's read globs, whether it exists or not.
            NotFound: No such workspace.
        """
        if not caller.grant.reads(workspace_id):
            raise self._denied(
                caller, "read_glob", Forbidden(f"This token may not read {workspace_id}", hint="Ask for a read glob")
            )
        workspace = self._registry.get(workspace_id)
        if not caller.grant.reads(workspace.workspace_id):  # named by an id that it had before
            raise self._denied(
                caller, "read_glob", Forbidden(f"This token may not read {workspace_id}", hint="Ask for a read glob")
            )
        return workspace

    def writer(self, caller: Caller, binding: str | None) -> Workspace:
        """The workspace that an AI caller writes: by its binding, its session, or its token's only write glob.

        Raises:
            NotBound: None of them names one.
            Conflict: The binding is for another workspace than the session's.
            Forbidden: The token may not write it.
        """
        self.ensure_role(caller, WRITERS)
        held = self.bindings.of_session(caller.session)
        if binding:
            try:
                given = self.bindings.parse(binding, caller.grant.fingerprint)
            except NotBound as error:
                raise self._denied(caller, "bad_binding", error) from None
            if held and held.workspace_id != given.workspace_id:
                raise self._bound_elsewhere(caller, held.workspace_id)
            held = given
        workspace_id = held.workspace_id if held else caller.grant.only_workspace
        workspace = self._registry.find(workspace_id) if workspace_id else None
        if workspace is None:
            raise self._denied(
                caller,
                "not_bound",
                NotBound(
                    "This call is not bound to a workspace", hint="Call register_workspace, then pass its `binding`"
                ),
            )
        self.ensure_may_write(caller, workspace)
        return workspace

    def writer_at(self, caller: Caller, workspace_id: str, binding: str | None, write_token: str | None) -> Workspace:
        """The workspace that an HTTP request names, for a caller that may write it there.

        Raises:
            Forbidden: Another workspace than the binding's, a wrong write token, or outside the token's rights.
            NotBound: An AI caller without a binding.
        """
        if caller.role in UPLOADERS:
            return self.uploader(caller, workspace_id, write_token)
        workspace = self.writer(caller, binding)
        meant = self._registry.find(workspace_id)
        if workspace.workspace_id != (meant.workspace_id if meant else workspace_id):
            raise self._denied(
                caller, "bound_elsewhere",
                Forbidden(f"This binding is not for {workspace_id}", hint="Register that workspace first"),
            )  # fmt: skip
        return workspace

    def person(self, caller: Caller, workspace_id: str) -> Workspace:
        """The workspace that a person names on a page, for a token that may write it.

        A binding keeps an agent from another one's workspace by accident; a person has chosen it by its name.

        Raises:
            Forbidden: Outside the token's rights. NotFound: no such workspace.
        """
        self.ensure_role(caller, WRITERS)
        workspace = self.reader(caller, workspace_id)
        self.ensure_may_write(caller, workspace)
        return workspace

    def uploader(self, caller: Caller, workspace_id: str, write_token: str | None) -> Workspace:
        """Raises: Forbidden: outside the token's rights, or a wrong write token. NotFound: no such workspace."""
        self.ensure_role(caller, UPLOADERS)
        if not caller.grant.writes(workspace_id):
            raise self._no_write_glob(caller, workspace_id)
        workspace = self._registry.get(workspace_id)
        self.ensure_may_write(caller, workspace)
        if caller.role == "sync" and not self._registry.is_write_token(workspace.workspace_id, write_token or ""):
            if write_token:
                auth_fail(caller.address, "bad_write_token", caller.where)
                raise Forbidden(
                    f"Not the write token of {workspace_id}", hint="An admin gives a new one: workspace reissue"
                )
            raise self._denied(
                caller, "no_write_token",
                Forbidden(f"Writing {workspace_id} takes its write token", hint="Registering it first gave one"),
            )  # fmt: skip
        return workspace

    def may_write(self, caller: Caller, workspace: Workspace) -> bool:
        """Whether a person with this token is offered what changes the workspace; nothing is logged."""
        machine = caller.grant.machine
        return (
            caller.role in WRITERS
            and caller.grant.writes(workspace.workspace_id)
            and (not machine or fold(machine) == fold(workspace.machine))
            and not workspace.archived_at
        )

    def ensure_may_write(self, caller: Caller, workspace: Workspace) -> None:
        """Raises: Forbidden: outside the token's write globs or machine, or archived."""
        if not caller.grant.writes(workspace.workspace_id):
            raise self._no_write_glob(caller, workspace.workspace_id)
        machine = caller.grant.machine
        if machine and fold(machine) != fold(workspace.machine):
            raise self._denied(
                caller,
                "machine",
                Forbidden(f"This token writes only workspaces of machine {machine}", hint="Use that machine's token"),
            )
        if workspace.archived_at:
            raise Forbidden(
                f"{workspace.workspace_id} is archived since {workspace.archived_at[:10]}: it is read, not written",
                hint="An admin brings it back: workspace archive --undo",
            )

    def ensure_may_bind(self, caller: Caller, workspace_id: str) -> None:
        """Raises: Conflict: the caller's session is bound to another workspace."""
        held = self.bindings.of_session(caller.session)
        if held and held.workspace_id != workspace_id:
            raise self._bound_elsewhere(caller, held.workspace_id)

    def bind(self, caller: Caller, workspace_id: WorkspaceId) -> str:
        """A new binding; in protocol versions with sessions it is the session's from now on.

        Raises:
            Conflict: The session is bound to another workspace.
        """
        self.ensure_may_bind(caller, workspace_id)
        binding = self.bindings.issue(workspace_id, caller.grant.fingerprint)
        if caller.session:
            wanted = self.bindings.parse(binding, caller.grant.fingerprint)
            kept = self.bindings.keep_for_session(caller.session, wanted)
            if kept.workspace_id != workspace_id:
                raise self._bound_elsewhere(caller, kept.workspace_id)
        return binding

    def bound_workspace(self, caller: Caller) -> str | None:
        """The workspace that this caller writes without saying so."""
        held = self.bindings.of_session(caller.session)
        return held.workspace_id if held else caller.grant.only_workspace

    def ensure_reads_key(self, caller: Caller, key: str) -> None:
        """Raises: Forbidden: the token may not read this key of the shared state, whether it is there or not."""
        self.ensure_role(caller, KEY_READERS)
        if not caller.grant.reads_key(key):
            raise self._denied(
                caller, "key_glob", Forbidden(f"This token may not read {key}", hint="Ask for --read-keys")
            )

    def ensure_reads_keys_of(self, caller: Caller, glob: str) -> None:
        """Raises: Forbidden: the token may not read every key that the glob can match."""
        self.ensure_role(caller, KEY_READERS)
        if not caller.grant.reads_all_keys_of(glob):
            raise self._denied(
                caller, "key_glob", Forbidden(f"This token may not read {glob}", hint="Ask for --read-keys")
            )

    def ensure_reads_some_key(self, caller: Caller) -> None:
        """Raises: Forbidden: the token may read no keys at all."""
        self.ensure_role(caller, KEY_READERS)
        if not caller.grant.key_globs_read:
            raise self._denied(caller, "key_glob", Forbidden("This token may read no keys", hint="Ask for --read-keys"))

    def ensure_writes_key(self, caller: Caller, key: str) -> None:
        if not caller.grant.writes_key(key):
            raise self._no_key_glob(caller, key)

    def ensure_writes_keys_of(self, caller: Caller, glob: str) -> None:
        """Raises: Forbidden: the token may not write every key that the glob can match."""
        if not caller.grant.writes_all_keys_of(glob):
            raise self._no_key_glob(caller, glob)

    def ensure_writes_room(self, caller: Caller, room: str) -> None:
        """Raises: Forbidden: the token's globs of rooms leave this one out."""
        if not caller.grant.writes_room(room):
            raise self._denied(
                caller, "room_glob", Forbidden(f"This token may not write in room {room}", hint="Ask for --write-rooms")
            )

    def _no_key_glob(self, caller: Caller, key: str) -> FederatedMemoryError:
        return self._denied(
            caller, "key_glob", Forbidden(f"This token may not write {key}", hint="Ask for --write-keys")
        )

    def viewing(self, caller: Caller, binding: str | None) -> str | None:
        """The workspace as which the caller reads what not everybody sees.

        Raises:
            NotBound: `binding` is given, and is none of this caller's.
        """
        if not binding:
            return self.bound_workspace(caller)
        try:
            return self.bindings.parse(binding, caller.grant.fingerprint).workspace_id
        except NotBound as error:
            raise self._denied(caller, "bad_binding", error) from None

    def registration(self, caller: Caller, binding: str | None) -> str:
        """Which of an agent's sessions this is: a name for the registration behind the binding, or for the token when
        that implies the workspace. It is public, the nonce it is made of is not.

        Raises:
            NotBound: `binding` is given, and is none of this caller's.
        """
        fingerprint = caller.grant.fingerprint
        held = self.bindings.parse(binding, fingerprint) if binding else self.bindings.of_session(caller.session)
        nonce = held.nonce if held else fingerprint
        return hashlib.sha256(b"session " + nonce.encode()).hexdigest()[:12]

    def matching(self, caller: Caller, workspace_id: str, *, machine: str = "", tool: str = "") -> list[Workspace]:
        """The workspaces that an id or a glob names, those of one machine or tool, if it is given; a glob, or none,
        chooses among those that the caller may read."""
        is_glob = any(sign in workspace_id for sign in "*?[")
        return [
            workspace
            for workspace in self.chosen(caller, "" if is_glob else workspace_id, tool)
            if (not is_glob or fnmatchcase(workspace.workspace_id, workspace_id))
            and (not machine or fold(workspace.machine) == fold(machine))
        ]

    def _no_write_glob(self, caller: Caller, workspace_id: str) -> FederatedMemoryError:
        return self._denied(
            caller, "write_glob", Forbidden(f"This token may not write {workspace_id}", hint="Ask for a write glob")
        )

    def _bound_elsewhere(self, caller: Caller, workspace_id: str) -> FederatedMemoryError:
        return self._denied(
            caller,
            "bound_elsewhere",
            Conflict(f"This session is bound to {workspace_id}", hint="Start a new session for another workspace"),
        )

    @staticmethod
    def _denied(caller: Caller, reason: str, error: FederatedMemoryError) -> FederatedMemoryError:
        auth_deny(caller.address, reason, caller.where)
        return error
