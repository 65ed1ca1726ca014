"""The lecture notebooks: made from their scripts, and copied to where a student may change them.

A lecture is one script, lectures/NN_name.py, in cells ("percent" format, read by jupytext); the
notebook beside it is made from it by running it, and carries its pictures.
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

WORK = Path("minseg_work") / "lectures"
LARGEST = 1_500_000  # bytes of a notebook in git


def lectures_folder(start: Path | None = None) -> Path:
    """The repository's lectures/, looked for upward from `start` (the current folder).

    Raises:
        ValueError: it is not there: an installed package has no lectures.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents, Path(__file__).resolve().parent.parent):
        if (folder / "lectures" / "README.md").is_file() and (folder / "minseg").is_dir():
            return folder / "lectures"
    raise ValueError(
        "the lectures are not in the installed package: clone the repository and run this inside it"
    )


def scripts(folder: Path) -> list[Path]:
    """The lectures' scripts in their order: 00_..., 01_..., 02a_..."""
    return sorted(folder.glob("[0-9]*_*.py"))


def make(folder: Path, names: list[str] | None = None) -> Iterator[Path]:
    """Make the notebooks anew from their scripts, outputs included; yields each as it is done.

    names: some of them ("02b" for 02b_the_canvas.py); all where None.

    Raises:
        ValueError: no such lecture, or a notebook too large for git.
    """
    import jupytext
    from nbclient import NotebookClient

    chosen = [s for s in scripts(folder) if not names or any(s.stem.startswith(n) for n in names)]
    if not chosen:
        raise ValueError(f"there is no lecture {', '.join(names or [])} in {folder}")
    for script in chosen:
        notebook = jupytext.read(script)
        client = NotebookClient(
            notebook,
            timeout=600,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
        )
        client.execute()
        _tidy(notebook)
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
        if len(text.encode()) > LARGEST:
            raise ValueError(
                f"{script.stem}.ipynb has {len(text.encode()):,} bytes, more than {LARGEST:,}: "
                "make its pictures smaller"
            )
        target = script.with_suffix(".ipynb")
        target.write_text(text, encoding="utf-8", newline="\n")
        yield target


def _tidy(notebook: dict) -> None:
    """Keep what a reader needs; drop what changes with the machine."""
    notebook["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(notebook["cells"]):
        cell["id"] = f"cell-{number}"
        tags = cell["metadata"].get("tags")
        cell["metadata"] = {"tags": tags} if tags else {}


def same_cells(script: Path) -> bool:
    """Does the notebook beside a script hold the script's cells? (Outputs change, sources must not.)"""
    import jupytext

    notebook = script.with_suffix(".ipynb")
    if not notebook.exists():
        return False
    wanted = [(cell.cell_type, cell.source) for cell in jupytext.read(script).cells]
    found = [(cell.cell_type, cell.source) for cell in jupytext.read(notebook).cells]
    return wanted == found


def copy(folder: Path, work: Path = WORK, errata: bool = True) -> list[Path]:
    """Copy the notebooks into `work`, never over a student's own changes; returns what was written.

    A notebook that was not changed since it was copied is brought up to date; a changed one stays.
    errata=False leaves out the cells tagged "erratum".
    """
    work.mkdir(parents=True, exist_ok=True)
    record = work / ".copied.json"
    copied = json.loads(record.read_text("utf-8")) if record.exists() else {}
    written = []
    for source in sorted(folder.glob("[0-9]*_*.ipynb")):
        notebook = json.loads(source.read_text("utf-8"))
        if not errata:
            notebook["cells"] = [
                cell
                for cell in notebook["cells"]
                if "erratum" not in cell["metadata"].get("tags", [])
            ]
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        target = work / source.name
        if target.exists() and _digest(target.read_text("utf-8")) != copied.get(source.name):
            continue  # the student's own by now
        if not target.exists() or copied.get(source.name) != _digest(text):
            target.write_text(text, encoding="utf-8", newline="\n")
            written.append(target)
        copied[source.name] = _digest(text)
    record.write_text(json.dumps(copied, indent=1) + "\n", encoding="utf-8")
    for extra in ("pictures", "pages", "weights"):
        if (folder / extra).is_dir():
            shutil.copytree(folder / extra, work / extra, dirs_exist_ok=True)
    return written


def open_jupyter(work: Path) -> int:
    """JupyterLab on the copied notebooks; its exit status."""
    try:
        import jupyterlab  # noqa: F401
    except ImportError:
        raise ValueError(
            'JupyterLab is not installed: `python3 start.py lectures` installs it, or `pip install "minseg'
            '[lectures]"`'
        ) from None
    return subprocess.call([sys.executable, "-m", "jupyterlab", str(work)])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
