"""`python -m bench kernels`: mistakes in its arguments end in one line, not in a traceback."""

import pytest

pytest.importorskip("triton")

from bench.kernels import cli  # noqa: E402 - needs Triton


@pytest.fixture(autouse=True)
def nothing_compiled(monkeypatch):
    monkeypatch.setattr(cli, "INTERPRETED", False)
    monkeypatch.setattr(cli, "rows", lambda targets, only: iter([{"stack": 0}] if only == "some" else []))
    monkeypatch.setattr(cli, "describe", str)


@pytest.mark.parametrize(
    "only, line",
    [("(", "argument --only: expected a regular expression; got '('"), ("none", "--only: 'none' matches no case")],
)
def test_cases_that_are_not_there(capsys, only, line):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--only", only])
    assert stop.value.code == 2 and line in capsys.readouterr().err.splitlines()[-1]


def test_a_file_that_cannot_be_written(capsys, tmp_path):
    path = tmp_path / "nowhere" / "rows.json"
    assert cli.main(["--only", "some", "--json", str(path)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"--json: {path}: cannot be written (No such file or directory); name another file"
    ]
