"""Results that were written as JSON, read back with what they depend on: the report's only input."""

import json
from dataclasses import dataclass
from pathlib import Path

_FIRST_COLORS = ("ycbcr", "reference")  # the default of `python -m bench loss`
_SIZE_NAMES = {(1920, 1080): "1080p", (3840, 2160): "4k", (7680, 4320): "8k"}


class ResultsError(Exception):
    """A file that is no result; one line that names it."""


@dataclass(frozen=True)
class Source:
    """One file of results. `kind`: "figures", "kernels", "rows", or what else a command says of its own."""

    path: Path
    kind: str
    rows: list[dict]
    environment: dict
    content: dict

    @property
    def on_gpu(self) -> bool:
        return self.content.get("device") == "cuda"

    @property
    def versions(self) -> str:
        names = {name: name for name in ("driver", "python", "torch", "triton", "numpy")}
        known = {name: self.environment.get(name) for name in ("system", "runtime", *names)}
        return ", ".join(f"{names.get(name, '')} {text}".strip() for name, text in known.items() if text)

    @property
    def command(self) -> str:
        """What to type for these results again: as recorded, else what the rows tell."""
        if recorded := self.content.get("command"):
            return recorded if isinstance(recorded, str) else " ".join(recorded)
        if self.kind == "figures":
            return "python -m bench figures"
        if self.kind == "kernels":
            only = "" if {row["case"].split()[0] for row in self.rows} - {"fp32"} else " --only '^fp32'"
            return f"python -m bench kernels --target {' '.join(_once(row['target'] for row in self.rows))}{only}"
        return _rows_command(self.rows, self.content.get("device", "cpu"))


def device(environment: dict) -> str:
    """What was measured: the GPU's name, or the processor's."""
    processor = environment.get("cpu") or "a processor, its name not recorded"
    name = environment.get("gpu") or f"{processor}, {environment.get('threads', '?')} threads"
    return name.replace("(R)", "").replace("(TM)", "")


def commit(environment: dict) -> str:
    """As git shortens it, with a note of changes."""
    name, *note = (environment.get("commit") or "not recorded").split(" ", 1)
    return " ".join([name[:7] if len(name) == 40 else name, *note])


def date(environment: dict) -> str:
    return environment["date"][:10] if environment.get("date") else "date not recorded"


def read_sources(folder: Path) -> list[Source]:
    """Every result below `folder`, by name. Raises ResultsError naming the file that is none."""
    if not folder.is_dir():
        raise ResultsError(f"{folder}: no such folder; measure first, or name the one with the results")
    return [read_source(path) for path in sorted(folder.rglob("*.json"), key=_by_name)]


def _by_name(path: Path) -> Path:
    """figures.json before figures-epyc.json."""
    return path.with_suffix("")


def read_source(path: Path) -> Source:
    """One file. A bare list, as of kernels alone, has nothing recorded that it depends on."""
    try:
        content = json.loads(path.read_text("utf-8"))
        content = {"rows": content} if isinstance(content, list) else content
        kind = "figures" if "figures" in content else "rows"
        rows = content[kind]
        if "kind" in content:  # compilation, ncu, sweep, convolutions, checks: read by people, and by bench/NOTES.md
            kind = content["kind"]
        elif any("kernel" in row for row in rows):
            kind = "kernels"
        needed = {
            "figures": ("what", "bound", "measured", "passed"),
            "kernels": ("target", "kernel", "case", "registers", "instructions", "bytes"),
            "rows": ("op", "width", "height", "dtype", "provider", "part", "status"),
        }.get(kind, ())
        environment = dict(content.get("environment") or {})
        if content.get("device") != "cuda":
            environment["gpu"] = None  # there may have been one, but it did not do this
        if missing := [key for row in rows for key in needed if key not in row]:
            raise ResultsError(f"{path}: a row has no {missing[0]!r}; write the file again with this version of bench")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise ResultsError(
            f"{path}: not a result of `python -m bench` ({reason}); write it again, or remove it"
        ) from error
    except OSError as error:
        raise ResultsError(
            f"{path}: cannot be read ({error.strerror or error}); remove it, or make it readable"
        ) from error
    return Source(path, kind, rows, environment, content)


def _rows_command(rows: list[dict], device: str) -> str:
    """The command whose rows these are: options that are not the default's."""
    if rows and rows[0]["op"] == "folder":
        return f"python -m bench enhance --device {device} --folder {rows[0]['pictures'] if rows[0]['made'] else 'DIR'}"
    words = ["python -m bench", *_once(row["op"] for row in rows)[:1], f"--device {device}"]
    if sizes := _once(size_name(row["width"], row["height"]) for row in rows):
        words.append(f"--size {','.join(sizes)}")
    dtypes, colors = _once(row["dtype"] for row in rows), _once(row["color"] for row in rows if row.get("color"))
    words += [f"--dtype {','.join(dtypes)}"] if dtypes and dtypes != ["float32"] else []
    words += [f"--color {','.join(colors)}"] if colors and tuple(colors) != _FIRST_COLORS else []
    if providers := _once(row["provider"] for row in rows if row["provider"]):
        words.append(f"--providers {','.join(providers)}")
    return " ".join(words)


def size_name(width: int, height: int) -> str:
    """As the command line takes it."""
    return _SIZE_NAMES.get((width, height), f"{width}x{height}")


def _once(values) -> list:
    """Each value once, in order."""
    return list(dict.fromkeys(values))
