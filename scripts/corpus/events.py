"""What happens in a session, before any agent's way of writing it down."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from scripts.corpus.actions import Action, Workbench
from scripts.corpus.voice import Voice

RARE_WORD = "zqx-rare-needle"
MEDIUM_WORD = "flumoxvane"


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the person asks; starts a turn."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    text: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What the agent says to the person; `last` ends the turn."""

    text: str
    last: bool


Event = Prompt | Thought | Reply | Action


def turns(voice: Voice, bench: Workbench) -> Iterator[Event]:
    """Turns without end."""
    rng = voice.rng
    while True:
        yield Prompt(voice.say(rng.randint(1, 3)))
        for _ in range(rng.randint(3, 25)):
            if rng.random() < 0.4:
                yield Thought(voice.say(rng.randint(1, 3)))
            if rng.random() < 0.35:
                yield Reply(voice.say(1), last=False)
            yield bench.act()
        yield Reply(voice.say(rng.randint(1, 4)), last=True)


def planted(events: Iterator[Event], index: int) -> Iterator[Event]:
    """Add the words that searches look for.

    `zqx-rare-needle-NNNN` (NNNN is the session's index) stands in the first prompt of one session in 50, those whose
    index leaves 7; `flumoxvane` in the first prompt and the first two tool outputs of one in 5, those that leave 2.
    A prompt is one line of Claude Code's and two of Codex's, an output one line of either.
    """
    rare = f" {RARE_WORD}-{index:04d}" if index % 50 == 7 else ""
    medium = f" The {MEDIUM_WORD} was found here." if index % 5 == 2 else ""
    prompts, actions = 1, 2
    for event in events:
        match event:
            case Prompt(text) if prompts:
                prompts -= 1
                yield Prompt(text + rare + medium)
            case Action(output=output) if actions:
                actions -= 1
                yield replace(event, output=output + medium)
            case _:
                yield event
