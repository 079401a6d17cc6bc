"""`export` and `import` (SPEC: EXPORT-1 to EXPORT-3, IMPORT-10, IMPORT-11)."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from federated_memory.cli.output import counted, json_option, print_json, print_line
from federated_memory.errors import Conflict, InvalidArgument, NotFound
from federated_memory.settings import load_settings

if TYPE_CHECKING:
    from federated_memory.cli.importing import Done
    from federated_memory.cli.protocol import Backend
    from federated_memory.operate.importers.formats import Format

_FORMATS = (
    "jsonl", "kioku-mesh", "claude-mem", "server-memory", "specstory", "basic-memory", "instructions",
)  # fmt: skip
_IMPORTED = "memories"
"""The project of a workspace for what another tool kept of many projects."""


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "export", parents=[json_option()], help="a workspace as a folder, or as JSONL",
        description="Copy a workspace. As a folder: with its versions and transcripts, as git and Obsidian open it; "
        "where the server runs. As JSONL: memories, documents as they are now, and transcripts; from anywhere.",
    )  # fmt: skip
    parser.add_argument("workspace_id", metavar="WORKSPACE")
    parser.add_argument("to", type=Path, metavar="PATH", help="a new folder, or a new file (`-`: standard output)")
    parser.add_argument("--format", choices=("folder", "jsonl"), default="folder", help="folder, if left out")
    parser.set_defaults(run=run_export)
    parser = verbs.add_parser(
        "import", parents=[json_option()], help="what export wrote, or another memory tool keeps",
        description="Take in an exported folder or JSONL, or what another tool keeps: kioku-mesh, claude-mem, "
        "server-memory, SpecStory, basic-memory, CLAUDE.md and AGENTS.md. Again, it changes nothing. Exit code 1: "
        "something could not be taken in.",
    )  # fmt: skip
    parser.add_argument("path", type=Path, metavar="PATH")
    parser.add_argument("--from", dest="form", choices=_FORMATS, default="", help="what it is (it is told by itself)")
    parser.add_argument("--workspace", default="", metavar="ID", help="into this one; made if need be otherwise")
    parser.add_argument("--as", dest="renamed", default="", metavar="ID", help="an exported folder: by another id")
    parser.add_argument("--dry-run", action="store_true", help="say what would come, and change nothing")
    parser.set_defaults(run=run_import)


def run_export(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend

    with open_backend(load_settings()) as backend:
        return (_export_jsonl if options.format == "jsonl" else _export_folder)(backend, options)


def _export_folder(backend: Backend, options: argparse.Namespace) -> int:
    from federated_memory.cli.backup import snapshot_path
    from federated_memory.operate.exchange import export_to

    made = backend.operate("snapshot", workspace_id=options.workspace_id)
    try:
        (workspace,) = (snapshot_path(backend, made) / "workspaces").iterdir()
        files = export_to(workspace, options.to)
    finally:
        with contextlib.suppress(NotFound):
            backend.operate("release", name=made["name"])
    if options.json:
        print_json({"folder": str(options.to), "files": files})
    else:
        print_line(f"{options.to} holds {counted(files, 'file')} of {options.workspace_id}.")
    return 0


def _export_jsonl(backend: Backend, options: argparse.Namespace) -> int:
    from federated_memory.cli.exporting import lines
    from federated_memory.cli.output import print_text

    counts: Counter[str] = Counter()
    if str(options.to) == "-":
        for line in lines(backend, options.workspace_id, counts):
            print_text(line)
        return 0
    if options.to.exists():
        raise Conflict(f"{options.to} is there already", hint="Name a new file")
    partial = options.to.with_name(f".{options.to.name}.exporting")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(lines(backend, options.workspace_id, counts))
        partial.replace(options.to)
    except OSError as error:
        raise InvalidArgument(f"{options.to} cannot be written ({error.strerror})", hint="Name another file") from error
    finally:
        partial.unlink(missing_ok=True)
    if options.json:
        print_json({"file": str(options.to), **{f"{kind}s": number for kind, number in counts.items()}})
    else:
        print_line(f"{options.to} holds {_listed(counts)} of {options.workspace_id}.")
    return 0


def run_import(options: argparse.Namespace) -> int:
    from federated_memory.cli.backend import open_backend
    from federated_memory.operate.importers.formats import format_of

    is_folder = not options.form and (options.path / "identity.json").exists()
    form = None if is_folder else format_of(options.path, options.form)
    with open_backend(load_settings()) as backend:
        return _take_in(backend, form, options) if form else _adopt(backend, options)


def _adopt(backend: Backend, options: argparse.Namespace) -> int:
    from federated_memory.operate.exchange import lay_down, read_identity, take_up

    identity = read_identity(options.path)
    workspace_id = options.renamed or options.workspace or identity.workspace_id
    if options.dry_run:
        return _print_adoption(backend, workspace_id, options)
    root = Path(backend.status().root)
    if not (root / "_meta").is_dir():
        raise InvalidArgument(f"The server's files are not here ({root})", hint="Run this where the server runs")
    name = lay_down(options.path, root)
    try:
        done = backend.operate("adopt", name=name, **{**asdict(identity), "workspace_id": workspace_id})
    finally:
        take_up(root, name)
    if options.json:
        print_json(done)
        return 1 if done["problems"] else 0
    taken = f"{counted(done['documents'], 'document')} and {counted(done['sessions'], 'session')}"
    print_line(f"{done['workspace_id']}: {taken} taken in.")
    for problem in done["problems"]:
        print_line(f"Left alone: {problem}.")
    return 1 if done["problems"] else 0


def _print_adoption(backend: Backend, workspace_id: str, options: argparse.Namespace) -> int:
    with contextlib.suppress(NotFound):
        backend.workspace(workspace_id)
        raise Conflict(f"There is a workspace {workspace_id}", hint="Give it another id with --as")
    counts = Counter({
        "memory": sum(1 for _ in (options.path / "memories").glob("[0-9]*/*/*.md")),
        "document": sum(1 for file in (options.path / "knowledge").rglob("*.md") if ".versions" not in file.parts),
        "session": sum(1 for _ in (options.path / "sessions").glob("[0-9]*/*/*.json")),
    })  # fmt: skip
    if options.json:
        print_json({"workspace_id": workspace_id, "dry_run": True, **counts})
    else:
        print_line(f"{workspace_id}: {_listed(counts)} would come.")
    return 0


# -- other tools


def _take_in(backend: Backend, form: Format, options: argparse.Namespace) -> int:
    from federated_memory.cli.importing import Importing

    workspace_id, binding, exists = _target(backend, form, options)
    importing = Importing(backend, workspace_id, binding, is_dry=options.dry_run, exists=exists)
    done = importing.run(form.read(options.path))
    if options.json:
        print_json(_as_dict(done, form.name, workspace_id, options.dry_run))
    else:
        _print(done, form.name, workspace_id, options.dry_run)
    return 1 if any(not one.is_meant for one in done.left_out) else 0


def _target(backend: Backend, form: Format, options: argparse.Namespace) -> tuple[str, str, bool]:
    """The workspace, its binding, and whether it is there: a dry run makes none."""
    from federated_memory.cli.calls import REGISTER
    from federated_memory.cli.place import bound
    from federated_memory.names import workspace_id_of

    if options.workspace:
        if options.dry_run:
            return backend.workspace(options.workspace).workspace_id, "", True
        return (*bound(backend, options.workspace), True)
    names, key = _names(form, options.path)
    if options.dry_run:
        told = {name: names.get(name, "") for name in ("machine", "tool", "project")}
        rows = backend.workspaces(**told)
        workspace_id = names.get("workspace_id") or workspace_id_of(**told)
        return (rows[0].workspace_id, "", True) if rows else (workspace_id, "", False)
    done = backend.ask(REGISTER, **names, project_key=key)
    return done.workspace_id, done.binding or "", True


def _names(form: Format, path: Path) -> tuple[dict[str, str], str]:
    """What the workspace for it is called, and its project's key: its own names, or this machine's and the tool's."""
    from federated_memory.cli.place import host_name, place_of
    from federated_memory.operate.importers import jsonl

    if form.name == jsonl.NAME:
        return jsonl.names_of(path), ""
    place = place_of((path if path.is_dir() else path.parent).resolve()) if form.is_of_a_project else None
    names = {"machine": host_name(), "tool": form.name, "project": place.project if place else _IMPORTED}
    return names, place.project_key if place else ""


def _as_dict(done: Done, form: str, workspace_id: str, is_dry: bool) -> dict[str, object]:
    left_out = [{"source": one.source, "why": one.why, "is_meant": one.is_meant} for one in done.left_out]
    return {
        "format": form, "workspace_id": workspace_id, "dry_run": is_dry,
        "memories": _counts(done.memories), "documents": _counts(done.documents), "sessions": _counts(done.sessions),
        "left_out": left_out, "warnings": done.warnings,
    }  # fmt: skip


def _counts(found: Counter[str]) -> dict[str, int]:
    return {outcome: found[outcome] for outcome in ("created", "updated", "unchanged", "deleted")}


def _print(done: Done, form: str, workspace_id: str, is_dry: bool) -> None:
    totals = {"memory": done.memories, "document": done.documents, "session": done.sessions}
    for outcome, said in (
        ("created", "would come" if is_dry else "taken in"), ("updated", "would change" if is_dry else "changed"),
        ("unchanged", "here already"), ("deleted", "not taken in again: deleted here"),
    ):  # fmt: skip
        counts = Counter({noun: found[outcome] for noun, found in totals.items() if found[outcome]})
        if counts or outcome == "created":
            print_line(f"{workspace_id}: {_listed(counts)} of {form} {said}.")
    meant = Counter(one.why for one in done.left_out if one.is_meant)
    for why, number in meant.items():
        print_line(f"Left out: {number:,} {why}.")
    for one in done.left_out:
        if not one.is_meant:
            print(f"federated-memory: not taken in: {one.source}: {one.why}", file=sys.stderr)
    for warning in done.warnings:
        print(f"federated-memory: {warning}", file=sys.stderr)


def _listed(counts: Counter[str]) -> str:
    plurals = {"memory": "memories", "document": "documents", "session": "sessions"}
    said = [f"{number:,} {noun if number == 1 else plurals[noun]}" for noun, number in counts.items() if number]
    return ", ".join(said) or "nothing"
