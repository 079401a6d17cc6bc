"""Real text of this machine: code by project, prose by file, and some sentences in Chinese, Japanese and Korean."""

import functools
import gettext
import gzip
import os
import random
import re
import sysconfig
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

CODE_ROOTS = ("/usr/lib/python3", "/usr/share/perl", "/usr/include/c++", "/usr/lib/node_modules/npm/lib")
PROSE_ROOTS = ("/usr/share/doc", "/usr/share/vim", *(f"/usr/share/man/man{section}" for section in (1, 2, 5, 7, 8)))
LOCALE_ROOT = Path("/usr/share/locale")
SKIPPED_FOLDERS = frozenset({"__pycache__", "site-packages", "idle_test", "lib2to3"})
CODE_SUFFIXES = (".py", ".pm", ".js", ".h")
PROSE_SUFFIXES = (".txt", ".md", ".rst", ".html", ".gz", "README", "NEWS")
CODE_BYTES = range(1_500, 120_000)
PROSE_BYTES = range(400, 400_000)
MOST_PROSE_FILES = 2_000
MOST_ALIKE = 12  # of one family of names: some programs bring thousands of nearly equal manual pages
READ_LIMIT = 400_000
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
MARKUP = re.compile(r"<(script|style).*?</\1>|<[^>]+>", re.S)
ROFF = re.compile(r"^[.\'].*$|\\f(?:\[[A-Z]*\]|\(..|[A-Z0-9])|\\[-& e]", re.M)
LETTERS = re.compile(r"(?:[^\W\d_]| )+")
DOCSTRING = re.compile(r'"""(.{80,2000}?)"""', re.S)

OWN_SENTENCES = (
    "検索の結果に古い記憶が混ざっていないか確認します。",
    "設定ファイルを読み込めないときは、既定の値で起動してください。",
    "このテストは時々失敗するので、待ち時間を延ばさずに原因を調べます。",
    "サーバーを再起動しても、保存した内容は失われません。",
    "请检查会话归档的搜索结果是否正确。",
    "写入之前先读取文件,并比较校验值。",
    "这个函数在空输入时会抛出异常,需要补上测试。",
    "部署完成后,请确认日志里没有错误。",
    "검색 결과가 올바른지 다시 확인해 주세요.",
    "서버를 다시 시작해도 저장한 내용은 그대로 남습니다.",
)


@dataclass(frozen=True, slots=True)
class Project:
    """A folder of code that sessions work on."""

    name: str
    files: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Pool:
    """What there is to pick from; texts are read when first used."""

    projects: tuple[Project, ...]
    prose: tuple[Path, ...]
    cjk: tuple[str, ...]


@functools.cache
def machine_pool() -> Pool:
    """Everything useful on this machine."""
    return build_pool((library_root(), *map(Path, CODE_ROOTS)), tuple(map(Path, PROSE_ROOTS)), LOCALE_ROOT)


@functools.cache
def library_pool() -> Pool:
    """Python's own library only: what a bare machine has."""
    return build_pool((library_root(),), (), None)


def library_root() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def build_pool(code_roots: Iterable[Path], prose_roots: Iterable[Path], locale_root: Path | None) -> Pool:
    """List what the roots hold, in an order that depends on nothing but their content's names and sizes."""
    code = list(found_files(code_roots, CODE_SUFFIXES, CODE_BYTES))
    projects = group_projects(code)
    docstrings = [path for path in code if path.suffix == ".py"]
    prose = [*few_alike(found_files(prose_roots, PROSE_SUFFIXES, PROSE_BYTES)), *docstrings]
    mixed = random.Random("pool")  # a skewed choice must not favour the first folder of the alphabet
    mixed.shuffle(projects)
    mixed.shuffle(prose)
    sentences = (*OWN_SENTENCES, *catalogue_sentences(locale_root))
    return Pool(tuple(projects), tuple(prose[:MOST_PROSE_FILES]), sentences)


def group_projects(files: Iterable[Path]) -> list[Project]:
    folders: dict[str, list[Path]] = {}
    for path in files:
        folders.setdefault("/".join(path.parent.parts[-2:]), []).append(path)
    return [Project(name, tuple(paths)) for name, paths in sorted(folders.items()) if len(paths) >= 5]


def few_alike(files: Iterable[Path]) -> Iterator[Path]:
    seen: Counter[tuple[Path, str]] = Counter()
    for path in files:
        family = path.parent, re.split(r"[-_.]", path.name)[0]
        seen[family] += 1
        if seen[family] <= MOST_ALIKE:
            yield path


def found_files(roots: Iterable[Path], suffixes: tuple[str, ...], sizes: range) -> Iterator[Path]:
    """Regular files below the roots, sorted, links left out."""
    for root in roots:
        for folder, subfolders, names in os.walk(root):
            subfolders[:] = sorted(name for name in subfolders if name not in SKIPPED_FOLDERS)
            for name in sorted(names):
                path = Path(folder, name)
                if name.endswith(suffixes) and not path.is_symlink() and path.stat().st_size in sizes:
                    yield path


@functools.lru_cache(maxsize=1024)
def text_of(path: Path) -> str:
    """The file's text without control characters; empty when it cannot be read."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            data = stream.read(READ_LIMIT)
    except (OSError, EOFError):
        return ""
    return CONTROL.sub("", data.decode("utf-8", "ignore"))


@functools.lru_cache(maxsize=MOST_PROSE_FILES + 1_000)
def paragraphs_of(path: Path) -> tuple[str, ...]:
    """The file's paragraphs of prose, each on one line; of Python code, its docstrings."""
    text = text_of(path)
    if path.suffix == ".py":
        text = "\n\n".join(DOCSTRING.findall(text))
    elif "<html" in text[:500].lower():
        text = MARKUP.sub(" ", text)
    elif "/man/" in path.as_posix():
        text = ROFF.sub("", text)
    joined = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return tuple(part for part in joined if 60 < len(part) < 1500 and is_prose(part))


def is_prose(text: str) -> bool:
    return len(LETTERS.sub("", text)) < 0.2 * len(text)


def catalogue_sentences(locale_root: Path | None, characters_each: int = 200_000) -> Iterator[str]:
    """Sentences of the message catalogues that programs brought along."""
    for language in ("ja", "zh_CN", "ko") if locale_root else ():
        left = characters_each
        for path in sorted((LOCALE_ROOT / language / "LC_MESSAGES").glob("*.mo")):
            for sentence in messages_of(path):
                left -= len(sentence)
                yield sentence
            if left < 0:
                break


def messages_of(path: Path) -> Iterator[str]:
    try:
        with path.open("rb") as stream:
            catalogue = gettext.GNUTranslations(stream)
    except (OSError, UnicodeDecodeError, ValueError):
        return
    messages: dict[object, object] = getattr(catalogue, "_catalog", {})  # there is no public way to list them
    for message in messages.values():
        if isinstance(message, str) and 12 < len(message) < 400 and any(ord(letter) > 0x2E80 for letter in message):
            yield CONTROL.sub("", " ".join(message.split()))
