"""What each page's name stands for. Loaded with the first page that somebody asks for, never by a start."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.responses import Response

from federated_memory.errors import NotFound
from federated_memory.pages.admin import AdminPages
from federated_memory.pages.asked import Asked
from federated_memory.pages.documents import DocumentPages
from federated_memory.pages.finding import FindingPages
from federated_memory.pages.markdown import rendered
from federated_memory.pages.memories import MemoryPages
from federated_memory.pages.rendering import load_templates
from federated_memory.pages.signing import SigningPages
from federated_memory.pages.transcripts import TranscriptPages
from federated_memory.pages.workspaces import WorkspacePages
from federated_memory.service.services import Services

Handler = Callable[[Asked], Response]


def handlers(services: Services) -> Mapping[str, Handler]:
    """By the names of `site.SHOWN` and `site.SENT`. All that later pages would have to load is loaded now, in 0.1 s."""
    load_templates()
    rendered("")
    signing, workspaces, documents = SigningPages(services), WorkspacePages(services), DocumentPages(services)
    transcripts, admin, finding = TranscriptPages(services), AdminPages(services), FindingPages(services)
    memories = MemoryPages(services)
    return {
        "home": workspaces.home,
        "machines": workspaces.machines,
        "workspace": workspaces.overview,
        "knowledge": documents.list,
        "document": documents.document,
        "deleted": documents.deleted,
        "history": documents.history,
        "restore": documents.restore,
        "sessions": transcripts.list,
        "session": transcripts.session,
        "transcript": transcripts.transcript,
        "memories": memories.list,
        "workspace_memories": memories.of_workspace,
        "memory": memories.memory,
        "delete_memory": memories.delete,
        "search": finding.search,
        "admin": admin.admin,
        "create_token": admin.create_token,
        "revoke_token": admin.revoke_token,
        "invite": admin.invite,
        "withdraw": admin.withdraw,
        "sign_in_form": signing.form,
        "sign_in": signing.sign_in,
        "sign_out": signing.sign_out,
        "nothing": _nothing,
    }


def _nothing(_: Asked) -> Response:
    raise NotFound("There is no such page", hint="Begin at the workspaces, or search")
