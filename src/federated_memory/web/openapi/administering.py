"""Tokens, invitations, operations, health, and what a new machine fetches."""

from __future__ import annotations

from federated_memory.operate.shipped import CLIENT_FILES
from federated_memory.service import operations, results
from federated_memory.web.enroll import ENROL_PATH, Code, NewInvitation
from federated_memory.web.openapi import shapes
from federated_memory.web.openapi.parts import IF_NONE_MATCH, OBJECT, WRITING, Media, Operation, header, text
from federated_memory.web.routes import NewToken

ACTIONS: dict[str, type[operations.Arguments]] = {
    "snapshot": operations.SnapshotArguments, "release": operations.ReleaseArguments,
    "purge": operations.PurgeArguments, "gc": operations.GcArguments, "rename": operations.RenameArguments,
    "merge": operations.MergeArguments, "archive": operations.ArchiveArguments, "adopt": operations.AdoptArguments,
}  # fmt: skip
"""Of `service.operations`, which has them only once a root is open."""
_RPC = Media(("application/json", "text/event-stream", "application/problem+json"), {})
_TYPES = {".py": "text/x-python", ".sh": "text/x-shellscript", ".ps1": "text/plain", ".json": "application/json"}

OPERATIONS = (
    Operation("healthz", "GET", "/healthz", "The process answers.", shapes.Health, is_open=True),
    Operation("readyz", "GET", "/readyz", "It is ready; else why not.", shapes.Readiness, statuses=(200, 503),
              is_open=True),
    Operation("metrics", "GET", "/metrics", "Counts for Prometheus (admin).",
              Media(("text/plain",), {"type": "string"})),
    Operation("mcp", "POST", "/mcp", "MCP, every protocol version: JSON-RPC, answered as JSON or as a stream.",
              _RPC,
              (header("MCP-Protocol-Version", "The client's."), header("MCP-Session-Id", "Protocols to 2025-11-25.")),
              OBJECT, statuses=(200, 202, 400, 404, 406, 413, 415)),
    Operation("mcp_stream", "GET", "/mcp", "Messages of the server (protocols to 2025-11-25).",
              _RPC, statuses=(200, 400, 404, 405, 406, 409)),
    Operation("mcp_end", "DELETE", "/mcp", "End a session (protocols to 2025-11-25).",
              _RPC, statuses=(200, 400, 404, 405, 406)),
    Operation("list_tokens", "GET", "/api/v1/tokens", "Named tokens (admin).", shapes.TokenList),
    Operation("create_token", "POST", "/api/v1/tokens", "Make one; its secret is shown this once (admin).",
              results.TokenCreated, body=NewToken, statuses=(201,), errors=WRITING),
    Operation("revoke_token", "DELETE", "/api/v1/tokens/{name}", "End one (admin).", results.TokenRow,
              errors=WRITING),
    Operation("list_invitations", "GET", "/api/v1/invitations", "Invitations (admin).", shapes.InvitationList),
    Operation("invite", "POST", "/api/v1/invitations", "Invite a machine (admin).", results.Invited,
              body=NewInvitation, statuses=(201,), errors=WRITING),
    Operation("withdraw", "DELETE", "/api/v1/invitations/{invitation_id}", "Take one back (admin).",
              results.InvitationRow, errors=WRITING),
    Operation("enrol", "POST", ENROL_PATH, "Trade an invitation's code for tokens.", results.Enrolled, body=Code,
              statuses=(201,), errors=WRITING, is_open=True),
    Operation("status", "GET", "/api/v1/status", "Counts and readiness (admin).", results.Status),
    Operation("flags", "GET", "/api/v1/flags", "Where secrets were found: kinds and counts.", results.SecretFlags,
              (text("machine", "Of this machine."),)),
    Operation("reindex", "POST", "/api/v1/reindex", "Make the search index anew (admin).", results.IndexStatus,
              statuses=(202,), errors=WRITING),
    Operation("operate", "POST", "/api/v1/operations/{action}", "What an operator's verb does (admin).", shapes.Done,
              body=tuple(ACTIONS.values()), errors=WRITING, words=tuple(ACTIONS)),
    Operation("openapi", "GET", "/api/v1/openapi.json", "This document.", OBJECT),
    *(
        Operation("client_" + name.replace(".", "_"), "GET", f"/client/{name}", "A file of the client.",
                  Media((_TYPES["." + name.rpartition(".")[2]],), {} if name.endswith("json") else {"type": "string"}),
                  (IF_NONE_MATCH,), statuses=(200, 304), errors=(404,),
                  headers={"ETag": "SHA-256 of the bytes, in quotes."}, is_open=True)
        for name in CLIENT_FILES
    ),
)  # fmt: skip
