"""Read the files, and put scripts that import each other into one.

Scripts are modules, as editors, linters and type checkers want them. A page that is one file cannot import others, so
their text is joined in the order in which they import each other, without the lines `import ...` and `export { ... }`.
Names at the top of the files must therefore differ from each other. Comments and indentation are for those who read the
files here, and are left out.
"""

import re
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
_IMPORT = re.compile(r'^import \{[^}]*\} from "([^"]+)";\n', re.M)
_EXPORT = re.compile(r"^export \{[^}]*\};\n", re.M)
# Whole comments of the form /* ... */, and comments after // that begin a line or follow two spaces or a brace.
_COMMENT = re.compile(r"/\*.*?\*/ ?|(?:^|(?<=[;,{} ])) *//(?: .*?)?$", re.M | re.S)


def template(name: str) -> str:
    """The text of a file as it is."""
    return (FOLDER / name).read_text("utf-8")


def source(name: str) -> str:
    """The text of a file, such as "shared/slider.js", without comments and indentation."""
    return _compact(template(name))


def bundle(name: str) -> str:
    """A script with all that it imports, each file once, as one text without imports."""
    texts: dict[Path, str] = {}
    _join((FOLDER / name).resolve(), texts)
    return _compact("\n".join(texts.values()))


def _compact(text: str) -> str:
    text = _COMMENT.sub("", text)
    return "".join(line.strip() + "\n" for line in text.splitlines() if line.strip())


def _join(path: Path, texts: dict[Path, str]) -> None:
    text = path.read_text("utf-8")
    for imported in _IMPORT.findall(text):
        target = (path.parent / imported).resolve()
        if target not in texts:
            _join(target, texts)
    texts[path] = _EXPORT.sub("", _IMPORT.sub("", text)).strip() + "\n"
