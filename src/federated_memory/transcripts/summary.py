"""What the first and the last lines tell about a whole session."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from federated_memory.transcripts.reading import detect
from federated_memory.transcripts.turn import Agent, Facts, Reader
from federated_memory.transcripts.values import parse_record

_TITLE_CHARACTERS = 120
_CONTROL = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0)), " ")


@dataclass(frozen=True, slots=True)
class Summary:
    """`title` is one line of at most 120 characters; times have the form that `parse_time` gives."""

    agent: Agent
    native_id: str | None
    title: str | None
    started_at: str | None
    ended_at: str | None
    cwd: str | None
    git_branch: str | None


def summarise(head: Sequence[bytes], tail: Sequence[bytes]) -> Summary:
    """Who, what, when and where, from whole lines of the start and of the end; the two may overlap. Never raises.

    The title is the newest one that a person gave, else the newest of the agent's own, else the first prompt a person
    wrote in `head`. Id, directory and branch are the first told.
    """
    reader = detect(head or tail)
    opening = [record for raw in head if (record := parse_record(raw)) is not None]
    closing = [record for raw in tail if (record := parse_record(raw)) is not None]
    first = [reader.facts(record) for record in opening]
    last = [reader.facts(record) for record in closing]
    facts = first + last
    first_times = [time for fact in first for time in fact.times]
    last_times = [time for fact in last for time in fact.times]
    return Summary(
        agent=reader.agent,
        native_id=_first(fact.native_id for fact in facts),
        title=_given_title(facts) or _first_prompt(reader, opening),
        started_at=min(first_times or last_times, default=None),
        ended_at=max(last_times or first_times, default=None),
        cwd=_first(fact.cwd for fact in facts),
        git_branch=_first(fact.git_branch for fact in facts),
    )


def _given_title(facts: Sequence[Facts]) -> str | None:
    titled = [fact for fact in reversed(facts) if fact.title]
    by_person = (fact for fact in titled if fact.titled_by_person)
    return _first(_one_line(fact.title) for fact in (*by_person, *titled))


def _first_prompt(reader: Reader, records: Iterable[dict[str, object]]) -> str | None:
    prompts = (turn.text for record in records for turn in reader.turns(record, 0) if turn.role == "user")
    return _first(_one_line(prompt) for prompt in prompts if prompt != "[image]")


def _one_line(text: str) -> str:
    start = text.lstrip()[: 8 * _TITLE_CHARACTERS]
    return " ".join(start.translate(_CONTROL).split())[:_TITLE_CHARACTERS].rstrip()


def _first(texts: Iterable[str]) -> str | None:
    return next((text for text in texts if text), None)
