"""Two people who write to each other for months, and questions about what they told.

A *fact* is one filled-in family of `texts/talk.txt`, told in one session. Both people tell facts of the same families,
later sessions touch old facts without telling them again, and questions use other names and forms than statements, so
that a word alone seldom finds the right session. A question is answered by every session whose fact it could mean.
"""

import json
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from scripts.corpus.labelled import LabelledSet, LabelledText, Question, Split
from scripts.corpus.phrases import SLOT, Family, as_asked, as_told, families, fill, word_lists

FIRST_DAY = datetime(2023, 1, 5, tzinfo=timezone.utc)
PEOPLE = ("Nora", "Felix", "Priya", "Marcus", "Ingrid", "Tomas", "Leila", "Owen", "Beatriz", "Hugo", "Wanda", "Elias",
          "Nora", "Kofi", "Marcus", "Yuki")  # fmt: skip
AGO = {"this morning": 0, "yesterday": 1, "last night": 1, "two days ago": 2, "last weekend": 4, "last Friday": 3,
       "a few days ago": 4, "last week": 7, "on Tuesday": 3, "the other day": 5}  # fmt: skip
REMINDERS = ("By the way, any news about {thing}?", "A coworker talked about {thing} all lunch, I thought of you.",
             "I still think of what you told me, with {thing} and all.", "Funny, I dreamt of {thing} last night.",
             "How are things with {thing} these days?")  # fmt: skip
KINDS = {"asked": "single", "detail": "detail", "when": "temporal", "month": "month", "every": "multi"}
SHARES = {"asked": 0.75, "detail": 0.5, "when": 0.6, "month": 0.35, "every": 0.5}


@dataclass(frozen=True, slots=True)
class Fact:
    """`things` holds the names of what fills each slot; `told` the words that were used."""

    family: Family
    teller: str
    listener: str
    session: int
    at: datetime
    things: dict[str, tuple[str, ...]]
    told: dict[str, str]


@dataclass(frozen=True, slots=True)
class Line:
    speaker: str
    text: str


def conversations(split: Split, count: int = 8, sessions: int = 26) -> Iterator[LabelledSet]:
    """The conversations of a split, each with about 150 questions. The same arguments give the same bytes."""
    for index in range(count):
        yield conversation(split, index, sessions)


def conversation(split: Split, index: int, sessions: int) -> LabelledSet:
    rng = random.Random(f"conversation/{split}/{index}")
    offset = 0 if split == "dev" else 8
    people = PEOPLE[(2 * index + offset) % len(PEOPLE)], PEOPLE[(2 * index + offset + 1) % len(PEOPLE)]
    days = sorted(rng.sample(range(240), sessions))
    starts = [FIRST_DAY + timedelta(days=day, minutes=rng.randrange(840)) for day in days]
    ids = [str(uuid.UUID(int=rng.getrandbits(128), version=4)) for _ in starts]
    facts = told_facts(rng, people, starts)
    texts = []
    for number, (session_id, start) in enumerate(zip(ids, starts, strict=True)):
        lines = talk(rng, people, number, facts)
        # Both forms in which such talk is kept: our own agents' and any other JSON lines.
        form = claude_line if index % 2 else plain_line
        written = (form(session_id, people, line, start + timedelta(minutes=at)) for at, line in enumerate(lines))
        texts.append(LabelledText(session_id, b"".join(written)))
    questions = tuple(ask(rng, facts, ids))
    return LabelledSet(f"{split}-{people[0]}-{people[1]}-{index}".lower(), "sessions", tuple(texts), questions)


def told_facts(rng: random.Random, people: tuple[str, str], starts: list[datetime]) -> list[Fact]:
    """Two to four facts a session; a slot holds a thing once for each person until all were used."""
    every = [family for name, family in families().items() if name != "smalltalk"]
    unused: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    facts = []
    for number, start in enumerate(starts):
        for family in rng.sample(every, rng.randint(2, 4)):
            teller, listener = rng.sample(people, 2)
            things = {}
            for slot in sorted(family.slots):
                left = unused.setdefault((teller, slot), [])
                if not left:
                    left += rng.sample(word_lists()[slot], len(word_lists()[slot]))
                things[slot] = left.pop()
            told = {slot: as_told(rng, names) for slot, names in things.items()}
            facts.append(Fact(family, teller, listener, number, start, things, told))
    return facts


def talk(rng: random.Random, people: tuple[str, str], number: int, facts: list[Fact]) -> list[Line]:
    """One session: a greeting, its facts with answers and details between small talk, and what was told before."""
    first, second = rng.sample(people, 2)
    small = families()["smalltalk"]
    names = {"me": first, "you": second}
    lines = [Line(first, fill(rng.choice(small.of("told")), names))]
    lines.append(Line(second, fill(rng.choice(small.of("answers")), {"me": first, "you": second})))
    blocks = [list(telling(rng, fact)) for fact in facts if fact.session == number]
    earlier = [fact for fact in facts if fact.session < number]
    blocks += [list(touching(rng, fact)) for fact in rng.sample(earlier, min(len(earlier), rng.randint(1, 3)))]
    rng.shuffle(blocks)
    for block in blocks:
        lines += block
        for speaker in rng.sample(people, rng.randint(0, 2)):
            lines.append(Line(speaker, rng.choice(small.of("touched"))))
    return lines


def telling(rng: random.Random, fact: Fact) -> Iterator[Line]:
    values = {**fact.told, "me": fact.teller, "you": fact.listener, "ago": rng.choice(list(AGO))}
    yield Line(fact.teller, fill(rng.choice(fact.family.of("told")), values))
    # The answer comes from the other, and sometimes two answers follow each other with a detail between.
    replies = rng.sample(fact.family.of("answers"), 2)
    yield Line(fact.listener, fill(replies[0], {"me": fact.teller, "you": fact.listener}))
    for detail in rng.sample(fact.family.of("more"), len(fact.family.of("more"))):
        yield Line(fact.teller, fill(detail, values))
    yield Line(fact.listener, fill(replies[1], {"me": fact.teller, "you": fact.listener}))


def touching(rng: random.Random, fact: Fact) -> Iterator[Line]:
    """A later word about a fact: its teller's vaguely, or its listener's by the name of one of its things."""
    thing = fact.told[rng.choice(sorted(fact.told))] if fact.told else ""
    if thing and not thing.startswith("my ") and rng.random() < 0.4:
        yield Line(fact.listener, fill(rng.choice(REMINDERS), {"thing": thing}))
    yield Line(fact.teller, fill(rng.choice(fact.family.of("touched")), {**fact.told, "me": fact.teller}))


def ask(rng: random.Random, facts: list[Fact], ids: list[str]) -> Iterator[Question]:
    """Questions about the facts, no text twice."""
    seen: set[str] = set()
    for fact in facts:
        for use, kind in KINDS.items():
            patterns = fact.family.of(use)  # people ask for a thing more often than for whatever there was
            if not patterns or rng.random() > SHARES[use]:
                continue
            weights = [1 + 2 * bool(fact.things.keys() & set(SLOT.findall(each))) for each in patterns]
            (pattern,) = rng.choices(patterns, weights)
            asked = {slot: as_asked(rng, names) for slot, names in fact.things.items()}
            text = fill(pattern, {**asked, "me": fact.teller, "month": f"{fact.at:%B}"})
            meant = [other for other in facts if could_mean(pattern, fact, other)]
            if use == "every" and len({other.session for other in meant}) < 2:
                continue
            if text not in seen:
                seen.add(text)
                yield Question(text, kind, frozenset(ids[other.session] for other in meant))


def could_mean(pattern: str, fact: Fact, other: Fact) -> bool:
    """Whether a question made for `fact` is as well one about `other`."""
    if other.family.name != fact.family.name or other.teller != fact.teller:
        return False
    named = set(SLOT.findall(pattern))
    if "month" in named and (other.at.year, other.at.month) != (fact.at.year, fact.at.month):
        return False
    return all(other.things[slot] == fact.things[slot] for slot in named & fact.things.keys())


def plain_line(session_id: str, people: tuple[str, str], line: Line, at: datetime) -> bytes:
    role = "user" if line.speaker == people[0] else "assistant"
    record = {"role": role, "speaker": line.speaker, "timestamp": at.isoformat(), "text": line.text}
    return as_line({**record, "session_id": session_id})


def claude_line(session_id: str, people: tuple[str, str], line: Line, at: datetime) -> bytes:
    text = f"{line.speaker}: {line.text}"
    mine = line.speaker == people[0]
    message: dict[str, object] = (
        {"role": "user", "content": text}
        if mine
        else {"role": "assistant", "content": [{"type": "text", "text": text}]}
    )
    record = {"type": message["role"], "message": message, "timestamp": at.isoformat(), "sessionId": session_id}
    unique = uuid.uuid5(uuid.UUID(session_id), f"{at.isoformat()} {text}")
    return as_line(
        {"isSidechain": False, "userType": "external", "cwd": "/home/dev/talk", **record, "uuid": str(unique)}
    )


def as_line(record: dict[str, object]) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"
