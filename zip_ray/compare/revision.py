"""Which code ran: the git revision, where there is one."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


def revision() -> str:
    """Hash of the commit, and whether files differ from it; `no git checkout` elsewhere."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return "no git checkout"
    return f"{commit} with local changes" if changed else commit
