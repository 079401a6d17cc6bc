"""Sessions of coding agents on a few projects, and what somebody later types to find the one that did a thing.

Each session has one *job*: trouble with a part of the project, an error seen, a file changed, a function written, a
command run, a commit made. Sessions of a project share packages, words and files, and their tools print what other
sessions did (`git log`, logs, search results), so that a mention is not yet the source. A question is answered by the
session whose job it is about.
"""

import json
import random
import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from scripts.corpus.actions import Action, Workbench
from scripts.corpus.claude import ClaudeShape
from scripts.corpus.clock import Clock
from scripts.corpus.events import Event, Prompt, Reply, Thought
from scripts.corpus.labelled import LabelledSet, LabelledText, Question, Split
from scripts.corpus.phrases import fill, sections
from scripts.corpus.pool import Pool, library_pool
from scripts.corpus.voice import Voice, choose_project

PROJECTS = {"dev": ("ledgerline", "harborcrew"), "test": ("mosaicbay", "tidewright")}


@dataclass(frozen=True, slots=True)
class Job:
    """What one session does; `named` and `other` are the filled slots by their first and by another name."""

    session_id: str
    named: dict[str, str]
    other: dict[str, str]
    error: str
    path: str
    function: str
    command: str
    commit: str


def coding_sessions(split: Split, sessions: int = 40, pool: Pool | None = None) -> Iterator[LabelledSet]:
    """One set for each project of the split. The same arguments and the same Python give the same bytes."""
    for project in PROJECTS[split]:
        rng = random.Random(f"coding/{split}/{project}")
        jobs = list(some_jobs(rng, sessions))
        texts = tuple(transcript(rng, pool or library_pool(), project, job, jobs) for job in jobs)
        questions = tuple(question for job in jobs for question in ask(rng, job, jobs))
        yield LabelledSet(f"{split}-{project}", "sessions", texts, questions)


def some_jobs(rng: random.Random, count: int) -> Iterator[Job]:
    """Jobs of which no two change the same file."""
    lists = sections("work.txt", "$")
    slots = ("package", "noun", "part", "verb", "trouble", "exception")
    paths: set[str] = set()
    while len(paths) < count:
        drawn = {slot: rng.choice(lists[slot]).split(" / ") for slot in slots}
        named = {slot: names[0] for slot, names in drawn.items()} | {"number": str(rng.randint(3, 9000))}
        other = {slot: rng.choice(names[1:] or names) for slot, names in drawn.items()}
        path = f"src/{named['package']}/{named['noun']}_{named['part']}.py"
        if path in paths:
            continue
        paths.add(path)
        yield Job(
            session_id=str(uuid.UUID(int=rng.getrandbits(128), version=4)),
            named=named,
            other=other,
            error=f"{named['exception']}: {filled(rng.choice(lists['message']), named)}",
            path=path,
            function=f"{named['verb']}_{named['noun']}_{named['part']}",
            command=filled(rng.choice(lists["tool"]), named),
            commit=f"{named['package']}: {named['verb']} the {named['noun']} {named['part']} that {named['trouble']}",
        )


def filled(pattern: str, values: dict[str, str]) -> str:
    """As `fill`, with the pattern's own case at its beginning."""
    return pattern[0] + fill(f"|{pattern}", values)[2:] if pattern[0] != "{" else fill(f"|{pattern}", values)[1:]


def transcript(rng: random.Random, pool: Pool, project: str, job: Job, jobs: list[Job]) -> LabelledText:
    voice, clock = Voice(rng, pool, choose_project(rng, pool)), Clock(rng)
    voice.cjk_share = 0
    cwd = f"/home/dev/src/{project}"
    shape = ClaudeShape(voice, clock, job.session_id, cwd)
    bench = Workbench(voice, clock, cwd)
    records = [record for event in events(rng, voice, bench, job, jobs) for record in shape.render(event)]
    lines = (json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records)
    return LabelledText(job.session_id, "".join(f"{line}\n" for line in lines).encode())


def events(rng: random.Random, voice: Voice, bench: Workbench, job: Job, jobs: list[Job]) -> Iterator[Event]:
    """The job's steps in order, with other work and other jobs' traces between them."""
    others = [other for other in jobs if other is not job]
    named = job.named
    steps: list[Event] = [
        Prompt(f"In {named['package']} the {named['noun']} {named['part']} {named['trouble']}. Please look into it."),
        bench.shell(f"python -m pytest -x tests/{named['package']}", "Run tests", traceback(rng, job)),
        Thought(f"The {job.error.partition(':')[0]} comes from {job.function}. {voice.sentence()}"),
        edit(voice, bench, job),
        bench.shell(job.command, "Try it", [f"ok {rng.random():.3f}s"]),
        bench.shell(f"git commit -am {json.dumps(job.commit)}", "Commit", [f"[main {rng.getrandbits(28):07x}]"]),
        Reply(f"Done: {job.function} no longer {named['trouble']}; the {named['part']} has a test now.", last=True),
    ]
    for step in steps:
        yield step
        for _ in range(rng.randint(1, 3)):
            yield trace(rng, bench, rng.choice(others)) if rng.random() < 0.45 else bench.act()
    yield Prompt(voice.say(1))
    yield bench.act()
    yield Reply(voice.say(1), last=True)


def traceback(rng: random.Random, job: Job) -> list[str]:
    line = rng.randint(10, 300)
    where = f'  File "{job.path}", line {line}, in {job.function}'
    return ["Traceback (most recent call last):", where, f"    return self.{job.named['part']}({line})", job.error]


def edit(voice: Voice, bench: Workbench, job: Job) -> Action:
    _, _, old = voice.code(8)
    new = f"def {job.function}(self):\n    # {job.named['trouble']}\n{old}"
    name = f"{bench.cwd}/{job.path}"
    arguments: dict[str, str | int | bool] = {"file_path": name, "old_string": old, "new_string": new}
    return Action("Edit", arguments, f"The file {name} has been updated.")


def trace(rng: random.Random, bench: Workbench, other: Job) -> Action:
    """What another job left behind, as a tool shows it."""
    match rng.randrange(4):
        case 0:
            found = f"{other.path}:{rng.randint(1, 99)}:def {other.function}(self):"
            return Action("Grep", {"pattern": other.named["noun"], "output_mode": "content"}, found)
        case 1:
            return bench.shell("git log --oneline -3", "History", [f"{rng.getrandbits(28):07x} {other.commit}"])
        case 2:
            line = f"{bench.clock.stamp()} WARNING {other.named['package']} {other.error.partition(': ')[2]}"
            return bench.shell("tail -n 20 server.log", "Read the log", [line])
        case _:
            lines = [f"import {other.named['noun']}", f"def {other.function}(self):", "    ..."]
            return Action("Read", {"file_path": f"{bench.cwd}/{other.path}"}, "\n".join(lines), "\n".join(lines))


def ask(rng: random.Random, job: Job, jobs: list[Job]) -> Iterator[Question]:
    """One question of each kind, where no other job could be meant."""
    named, other = job.named, job.other
    wanted = {
        "error": rng.choice((job.error, job.error.partition(": ")[2], f'File "{job.path}" {job.error}')),
        "path": rng.choice((job.path, job.path.rpartition("/")[2], f"changes to {job.path}")),
        "identifier": rng.choice((job.function, job.function.replace("_", " "), f"{job.function}()")),
        "commit": rng.choice((job.commit, " ".join(rng.sample(re.findall(r"\b(?!the|that|is)\w+", job.commit), 5)))),
        "command": rng.choice((job.command, job.command[: len(job.command) * 3 // 4])),
        "task": rng.choice((
            f"how did we fix the {other['noun']} {named['part']} in {named['package']} where {other['trouble']}",
            f"{named['package']} {named['noun']} {other['part']} bug, {other['trouble']}",
            f"session about {other['verb']} the {named['noun']} {named['part']} because {other['trouble']}",
        )),
    }  # fmt: skip
    for kind, text in wanted.items():
        if answers := answered_by(kind, text, job, jobs):
            yield Question(text, kind, answers)


def answered_by(kind: str, text: str, job: Job, jobs: list[Job]) -> frozenset[str]:
    """The sessions whose job holds the text; for what is told in other words, the job's own."""
    if kind in ("commit", "task"):
        return frozenset({job.session_id})
    spelled = {"error": "error", "path": "path", "identifier": "function", "command": "command"}[kind]
    meant = {other.session_id for other in jobs if text in str(getattr(other, spelled))}
    return frozenset(meant | {job.session_id})
