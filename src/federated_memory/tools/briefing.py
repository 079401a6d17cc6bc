"""The tool that an agent calls first."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from federated_memory.service.brief import DEFAULT_BRIEF_BYTES
from federated_memory.service.brief_scope import Asked
from federated_memory.service.results import Brief
from federated_memory.tools import parameters as p
from federated_memory.tools.toolkit import Call, ToolSpec, spec


def get_brief(
    call: Call,
    workspace_id: p.WorkspaceId = "",
    max_bytes: p.MaxBytes = DEFAULT_BRIEF_BYTES,
    binding: Annotated[str | None, Field(max_length=2_000)] = None,
) -> Brief:
    """What you need at the start of a session: overviews, how the project's last session ended on any machine, what
    changed since, and the register_workspace call to make. Unsure which project is yours, it says what to call."""
    return call.services.briefing.brief(call.caller, Asked(workspace_id=workspace_id, binding=binding or ""), max_bytes)


TOOLS: tuple[ToolSpec, ...] = (spec(get_brief, "Brief for the start of a session"),)
