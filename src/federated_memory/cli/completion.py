"""`completion`: what a shell needs to finish a half-typed command, made from the parser itself (SPEC: CLI-28)."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

NAMES = ("federated-memory", "fedmem")
_INSTALL = {
    "bash": "echo 'eval \"$(fedmem completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(fedmem completion zsh)\"' >> ~/.zshrc",
    "fish": "fedmem completion fish > ~/.config/fish/completions/fedmem.fish",
}


@dataclass
class Command:
    """One command, such as `/token/create`: what may follow it. Each word comes with what it is for."""

    path: str
    words: dict[str, str] = field(default_factory=dict)
    """Its actions, and the choices of its arguments."""
    flags: dict[str, str] = field(default_factory=dict)
    values: dict[str, list[str] | None] = field(default_factory=dict)
    """Flags that take a value: one of these; any, if empty; a file, if None."""
    has_files: bool = False


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser(
        "completion", help="commands and options at the Tab key", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Print what makes a shell complete this command:\n\n"
        + "\n".join(f"  {shell:5} {line}" for shell, line in _INSTALL.items()),
    )  # fmt: skip
    parser.add_argument("shell", choices=tuple(_INSTALL))
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from federated_memory.cli.output import print_text

    made = {"bash": _bash, "zsh": _zsh, "fish": _fish}[options.shell]
    print_text(made(list(commands(options.parser))))
    return 0


def commands(parser: argparse.ArgumentParser, path: str = "") -> Iterator[Command]:
    """The command and all below it."""
    found = Command(path)
    below: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        told = "" if action.help in (None, argparse.SUPPRESS) else str(action.help)
        if isinstance(action, argparse._SubParsersAction):
            below = dict(action.choices)
            found.words |= {choice.dest: choice.help or "" for choice in action._choices_actions}
        elif action.option_strings:
            found.flags |= dict.fromkeys(action.option_strings, told)
            if action.nargs != 0:
                values = None if action.type is Path else [str(choice) for choice in action.choices or ()]
                found.values |= dict.fromkeys(action.option_strings, values)
        elif action.choices:
            found.words |= dict.fromkeys(map(str, action.choices), told)
        elif action.type is Path:
            found.has_files = True
    yield found
    for name, inner in below.items():
        yield from commands(inner, f"{path}/{name}")


def _bash(found: list[Command]) -> str:
    known = "|".join(command.path for command in found[1:])
    values, words = [], []
    for command in found:
        for flag, choices in command.values.items():
            made = "compopt -o default 2>/dev/null" if choices is None else ""
            if choices:
                made = f'COMPREPLY=($(compgen -W {_quoted(" ".join(choices))} -- "$cur"))'
            values.append(f"    {command.path}:{flag}) {made or ':'}; return ;;")
        flags, follow = _quoted(" ".join(command.flags)), _quoted(" ".join(command.words))
        words.append(f'    "{command.path}") flags={flags}; words={follow}; files={_yes(command)} ;;')
    return _BASH.format(
        known=known, values="\n".join(values), words="\n".join(words), names=" ".join(NAMES)
    )  # fmt: skip


def _zsh(found: list[Command]) -> str:
    known = "|".join(command.path for command in found[1:])
    values, words = [], []
    for command in found:
        for flag, choices in command.values.items():
            made = "_files" if choices is None else f"compadd -- {' '.join(map(_quoted, choices))}" if choices else ":"
            values.append(f"    {command.path}:{flag}) {made}; return ;;")
        told = " ".join(_quoted(f"{word}:{_one_line(help)}") for word, help in (command.words | command.flags).items())
        words.append(f'    "{command.path}") words_of=({told}); files={_yes(command)} ;;')
    return _ZSH.format(known=known, values="\n".join(values), words="\n".join(words), names=" ".join(NAMES))


def _fish(found: list[Command]) -> str:
    known = " ".join(command.path for command in found[1:])
    lines = []
    for name in NAMES:
        for command in found:
            start = f"complete -c {name} -n '__fedmem_at \"{command.path}\"'"
            lines.append(f"{start} {'-F' if command.has_files else '-f'}")
            lines += [f"{start} -a {word} -d {_quoted(_one_line(told))}" for word, told in command.words.items()]
            for flag, told in command.flags.items():
                option = f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}"
                choices = command.values.get(flag, "")
                value = "" if choices == "" else " -rF" if choices is None else " -x"
                value += f" -a {_quoted(' '.join(choices))}" if choices else ""
                lines.append(f"{start} {option}{value} -d {_quoted(_one_line(told))}")
    return _FISH.format(known=known, lines="\n".join(lines))


def _one_line(text: str) -> str:
    return " ".join(text.replace("%%", "%").replace(":", " ").split())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _yes(command: Command) -> str:
    return "1" if command.has_files else "''"


_BASH = """\
_federated_memory() {{
  COMPREPLY=()
  local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} at='' flags='' words='' files='' i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case $at/${{COMP_WORDS[i]}} in
    {known}) at=$at/${{COMP_WORDS[i]}} ;;
    esac
  done
  case $at:$prev in
{values}
  esac
  case $at in
{words}
  esac
  case $cur in
    -*) COMPREPLY=($(compgen -W "$flags" -- "$cur")) ;;
    *) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;;
  esac
  [ -z "$files" ] || compopt -o default 2>/dev/null || :
}}
complete -F _federated_memory {names}
"""
_ZSH = """\
#compdef {names}
(( $+functions[compdef] )) || {{ autoload -Uz compinit && compinit }}
_federated_memory() {{
  local at='' files='' i
  local -a words_of
  for ((i = 2; i < CURRENT; i++)); do
    case $at/$words[i] in
    {known}) at=$at/$words[i] ;;
    esac
  done
  case $at:$words[CURRENT-1] in
{values}
  esac
  case $at in
{words}
  esac
  _describe 'federated-memory' words_of
  [[ -n $files ]] && _files
}}
compdef _federated_memory {names}
"""
_FISH = """\
function __fedmem_at
  set -l at ''
  for word in (commandline -opc)[2..-1]
    if contains -- "$at/$word" {known}
      set at "$at/$word"
    end
  end
  test "$at" = "$argv[1]"
end
{lines}
"""
