"""MathJax for the pages of the course: from npm once, then from a folder of our own."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tools import ROOT, Refused

# Exact versions; npm says which bytes each has: `npm view mathjax@3.2.2 dist.integrity`.
SCRIPTS = {
    "mathjax@3.2.2": (
        "es5/tex-svg.js",
        "sha512-Bt+SSVU8eBG27zChVewOicYs7Xsdt40qm4+UpHyX7k0/O9NliPc+x77k1/FEsPsjKPZGJvtRZM1vO+geW0OhGw==",
    ),
}
PATIENCE = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]  # else a minute without network
CACHE = ROOT / ".venv" / "share" / "pages"


def fetch_scripts(cache: Path = CACHE) -> Path:
    """The folder with MathJax and its license; downloaded by npm if they are not there.

    Raises Refused without npm, without a network, or if npm brings other bytes than these.
    """
    wanted = cache / hashlib.sha256(repr(SCRIPTS).encode()).hexdigest()[:16]
    if wanted.exists():
        return wanted
    npm = shutil.which("npm")
    if npm is None:
        raise Refused(
            "npm is missing: it fetches MathJax, once, for the formulas. "
            "Install Node.js (on Debian: apt install npm), then run `make site` again"
        )
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        ready = Path(folder, "ready")
        ready.mkdir()
        for package, (script, integrity) in SCRIPTS.items():
            pack = [npm, "pack", package, "--json", "--pack-destination", folder, *PATIENCE]
            done = subprocess.run(pack, capture_output=True, text=True, cwd=folder)
            if done.returncode:
                summary = re.search(r'"summary": "([^"]*)', done.stdout)
                why = summary[1] if summary else done.stderr.strip()
                raise Refused(f"npm could not fetch {package}: {why}")
            archive = Path(folder, json.loads(done.stdout)[0]["filename"])
            found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
            if f"sha512-{found}" != integrity:
                raise Refused(
                    f"npm brought a {package} with other bytes than tools/site_scripts.py names"
                )
            with tarfile.open(archive) as tar:
                for member, name in [(script, Path(script).name), ("LICENSE", None)]:
                    name = name or f"{package.partition('@')[0]}.LICENSE.txt"
                    ready.joinpath(name).write_bytes(tar.extractfile(f"package/{member}").read())
        ready.rename(wanted)
    return wanted
