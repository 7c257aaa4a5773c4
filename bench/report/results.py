"""Reads JSON files of results: the report's only input."""

import json
from dataclasses import dataclass
from pathlib import Path

_FIRST_COLORS = ("ycbcr", "reference")  # the default of `python -m bench loss`
_SIZE_NAMES = {(1920, 1080): "1080p", (3840, 2160): "4k", (7680, 4320): "8k"}


class ResultsError(Exception):
    """A file is not a result; the message is one line that names it."""


@dataclass(frozen=True)
class Source:
    """One file of results."""

    path: Path
    kind: str  # "figures", "kernels", "rows", or the `kind` that a command has written into its file
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
        """The command that measures these results again: as recorded, or derived from the rows."""
        if recorded := self.content.get("command"):
            return recorded if isinstance(recorded, str) else " ".join(recorded)
        if self.kind in ("figures", "convolutions"):
            return f"python -m bench {self.kind}"
        if self.kind == "kernels":
            only = "" if {row["case"].split()[0] for row in self.rows} - {"fp32"} else " --only '^fp32'"
            return f"python -m bench kernels --target {' '.join(_once(row['target'] for row in self.rows))}{only}"
        return _rows_command(self.rows, self.content.get("device", "cpu"))


def device(environment: dict) -> str:
    """What was measured: the GPU's name, or the processor's."""
    processor = environment.get("cpu") or "a processor, its name not recorded"
    vectors = f" ({environment['vectors']})" if environment.get("vectors") else ""
    name = environment.get("gpu") or f"{processor}{vectors}, {environment.get('threads', '?')} threads"
    return name.replace("(R)", "").replace("(TM)", "")


def commit(environment: dict) -> str:
    """The commit in short, with a note if there were changes."""
    name, *note = (environment.get("commit") or "not recorded").split(" ", 1)
    return " ".join([name[:7] if len(name) == 40 else name, *note])


def date(environment: dict) -> str:
    return environment["date"][:10] if environment.get("date") else "date not recorded"


def read_sources(folder: Path) -> list[Source]:
    """All results below `folder`, by name. Raises ResultsError, which names a file that is not a result."""
    if not folder.is_dir():
        raise ResultsError(f"{folder}: no such folder; measure first, or name the one with the results")
    return [read_source(path) for path in sorted(folder.rglob("*.json"), key=_by_name)]


def _by_name(path: Path) -> Path:
    """Sorts figures.json before figures-epyc.json."""
    return path.with_suffix("")


def read_source(path: Path) -> Source:
    """Reads one file. It may be a bare list of rows, without a record of what they depend on."""
    try:
        content = json.loads(path.read_text("utf-8"))
        content = {"rows": content} if isinstance(content, list) else content
        kind = "figures" if "figures" in content else "rows"
        rows = content[kind]
        if (
            "kind" in content
        ):  # compilation, ncu, sweep, convolutions, checks: people read them, and bench/NOTES.md quotes them
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
            environment["gpu"] = None  # the machine may have one, but it was not used
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
    """The command that gives these rows, with the options that are not the defaults."""
    sizes = ",".join(_once(size_name(row["width"], row["height"]) for row in rows))
    if rows and rows[0]["op"] == "folder":
        return f"python -m bench enhance --device {device} --folder {rows[0]['pictures'] if rows[0]['made'] else 'DIR'}"
    if rows and "batch" in rows[0]:
        return f"python -m bench step --graph --batch {rows[0]['batch']} --device {device} --size {sizes}"
    words = ["python -m bench", *_once(row["op"] for row in rows)[:1], f"--device {device}"]
    words += [f"--size {sizes}"] if sizes else []
    dtypes, colors = _once(row["dtype"] for row in rows), _once(row["color"] for row in rows if row.get("color"))
    words += [f"--dtype {','.join(dtypes)}"] if dtypes and dtypes != ["float32"] else []
    words += [f"--color {','.join(colors)}"] if colors and tuple(colors) != _FIRST_COLORS else []
    if providers := _once(row["provider"] for row in rows if row["provider"]):
        words.append(f"--providers {','.join(providers)}")
    return " ".join(words)


def size_name(width: int, height: int) -> str:
    """A size as it is given on the command line."""
    return _SIZE_NAMES.get((width, height), f"{width}x{height}")


def _once(values) -> list:
    """Each value once, in the order of its first appearance."""
    return list(dict.fromkeys(values))
