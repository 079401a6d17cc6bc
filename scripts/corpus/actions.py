"""Tool calls of a coding agent and their outputs, made of real files."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scripts.corpus.clock import Clock
from scripts.corpus.pool import text_of
from scripts.corpus.voice import Voice

MAX_GREP_LINES = 80


@dataclass(frozen=True, slots=True)
class Action:
    """One tool call, named as Claude Code names its tools."""

    tool: str
    arguments: dict[str, str | int | bool]
    output: str
    plain: str = field(default="", repr=False)  # of a Read: the text without line numbers


class Workbench:
    """A checkout that an agent reads, edits and tests."""

    def __init__(self, voice: Voice, clock: Clock, cwd: str) -> None:
        self.voice = voice
        self.rng = voice.rng
        self.clock = clock
        self.cwd = cwd
        self.kinds: tuple[Callable[[], Action], ...] = (
            self.read, self.edit, self.grep, self.test, self.diff, self.log, self.listing, self.fetch,
        )  # fmt: skip
        self.weights = (34, 18, 16, 8, 5, 5, 4, 10)

    def act(self) -> Action:
        (kind,) = self.rng.choices(self.kinds, self.weights)
        return kind()

    def shown(self, path: Path) -> str:
        """A file's name as the session sees it."""
        return f"{self.cwd}/{'/'.join(path.parts[-2:])}"

    def read(self) -> Action:
        lines = min(2000, int(self.rng.lognormvariate(4.6, 1.0)) + 5)
        path, first, text = self.voice.code(lines)
        numbered = "\n".join(f"{first + i:6d}\u2192{line}" for i, line in enumerate(text.split("\n"), 1))
        return Action("Read", {"file_path": self.shown(path), "offset": first + 1}, numbered, text)

    def edit(self) -> Action:
        path, _, old = self.voice.code(self.rng.randint(3, 30))
        note = f"\n# {self.voice.sentence()[:90]}"
        new = old.replace("self", "this", 1) if self.rng.random() < 0.5 else old + note
        name = self.shown(path)
        arguments: dict[str, str | int | bool] = {"file_path": name, "old_string": old, "new_string": new}
        return Action("Edit", arguments, f"The file {name} has been updated. Here is the result:\n{new}")

    def grep(self) -> Action:
        words = re.findall(r"[A-Za-z_]{5,}", self.voice.code(20)[2]) or ["import"]
        word = self.rng.choice(words)
        hits: list[str] = []
        for path in self.rng.sample(self.voice.files, min(8, len(self.voice.files))):
            lines = enumerate(text_of(path).split("\n"), 1)
            hits += [f"{self.shown(path)}:{number}:{line}" for number, line in lines if word in line]
            if len(hits) >= MAX_GREP_LINES:
                break
        output = "\n".join(hits[:MAX_GREP_LINES]) or "No matches found"
        return Action("Grep", {"pattern": word, "output_mode": "content", "-n": True}, output)

    def test(self) -> Action:
        path, _, text = self.voice.code(60)
        names = re.findall(r"[A-Za-z_]{4,20}", text)[:100]
        green, red, plain = ("\x1b[32m", "\x1b[31m", "\x1b[0m") if self.rng.random() < 0.2 else ("", "", "")
        lines = []
        for percent, name in enumerate(names):
            verdict = f"{green}PASSED{plain}" if self.rng.random() < 0.95 else f"{red}FAILED{plain}"
            lines.append(f"{path.name}::test_{name.lower()} {verdict} [{percent:3d}%]")
        lines += [f"E   {line}" for line in self.voice.code(12)[2].split("\n")]
        failed, passed, seconds = self.rng.randrange(9), self.rng.randrange(400), self.rng.random() * 90
        lines.append(f"==== {failed} failed, {passed} passed in {seconds:.2f}s ====")
        return self.shell(f"cd {self.cwd} && python -m pytest -x -q {path.name}", "Run tests", lines)

    def diff(self) -> Action:
        path, _, text = self.voice.code(self.rng.randint(10, 120))
        old, new = self.rng.getrandbits(28), self.rng.getrandbits(28)
        lines = [f"diff --git a/{path.name} b/{path.name}", f"index {old:07x}..{new:07x} 100644"]
        lines += [self.rng.choices("+- ", (20, 16, 64))[0] + line for line in text.split("\n")]
        return self.shell("git diff HEAD~1", "Show the diff", lines)

    def log(self) -> Action:
        lines = []
        for _ in range(self.rng.randint(5, 120)):
            level = self.rng.choice(("INFO", "DEBUG", "WARNING", "ERROR"))
            said = self.voice.sentence()[: self.rng.randint(30, 110)]
            request, took = self.rng.getrandbits(32), self.rng.randrange(5000)
            lines.append(f"{self.clock.stamp()} {level} [req-{request:08x}] {said} took={took}ms")
        return self.shell("tail -n 200 server.log", "Read the log", lines)

    def listing(self) -> Action:
        day = f"{self.clock.now:%b %d %H:%M}"
        lines = [f"-rw-r--r-- 1 dev dev {len(text_of(path)):8d} {day} {path.name}" for path in self.voice.files]
        return self.shell("ls -la", "List files", lines)

    def fetch(self) -> Action:
        question = self.voice.sentence()
        slug = "-".join(re.findall(r"[a-z]+", question.lower())[:4]) or "index"
        arguments: dict[str, str | int | bool] = {"url": f"https://docs.example.org/{slug}", "prompt": question[:80]}
        return Action("WebFetch", arguments, self.voice.say(self.rng.randint(4, 14)))

    def shell(self, command: str, description: str, lines: list[str]) -> Action:
        return Action("Bash", {"command": command, "description": description}, "\n".join(lines))
