"""The course as a folder of static pages, from the outputs that the notebooks hold: `make site`.

    python -m tools.site [FOLDER] [--students]        (default: _site, _site-students)

With --students there are no solutions among them, and no page for lecturers. Sphinx makes the pages;
MathJax comes from npm once and lies beside them, so that the folder needs no network and no
server. What is wrong with the pages is printed; exit 1 if anything.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import ROOT, Refused
from tools.site_check import faults
from tools.site_scripts import fetch_scripts
from tools.site_source import stage

OURS = ".pages-of-the-course"  # without this file in it, a folder is somebody's


def build(root: Path, out: Path, scripts: Path, students: bool = False) -> None:
    """Make the pages of the course in `root`; they replace the folder `out` when they are ready.

    `scripts` is the folder that fetch_scripts gives; `students` get no solutions. Raises Refused
    with what Sphinx said if it warned of anything, and for an `out` that holds something else than pages.
    """
    if out.exists() and any(out.iterdir()) and not (out / OURS).exists():
        raise Refused(f"{out} holds other things than pages of the course; name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".pages-") as work:
        source, doctrees, pages = (Path(work, name) for name in ("source", "doctrees", "pages"))
        source.mkdir()
        stage(root, source, students)
        command = [sys.executable, "-m", "sphinx", "-q", "-W", "-j", "2", "-b", "html"]
        command += ["-c", str(ROOT / "pages"), "-d", str(doctrees), str(source), str(pages)]
        environment = os.environ | {"PAGES_SCRIPTS": str(scripts)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT)
        if done.returncode:
            raise Refused(*done.stderr.replace(f"{source}/", "").strip().splitlines())
        for notebook in source.rglob(
            "*.ipynb"
        ):  # to be fetched from its page, as it is in the course
            name = notebook.relative_to(source)
            shutil.copyfile(root / name, pages / name)
        (pages / OURS).touch()
        if out.exists():
            shutil.rmtree(out)
        pages.rename(out)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.site")
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--students", action="store_true", help="without solutions")
    chosen = parser.parse_args(arguments)
    out = chosen.folder or ROOT / ("_site-students" if chosen.students else "_site")
    try:
        build(ROOT, out, fetch_scripts(), chosen.students)
        found = list(faults(out))
    except Refused as refused:
        found = refused.faults
    for fault in found:
        print(fault, file=sys.stderr)
    if not found:
        print(f"open {out.absolute() / 'index.html'} in any browser; the folder can be copied")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
