"""Which code ran: the package's version, and its commit where it is run from a git checkout."""

import subprocess

from zip_ray import __version__
from zip_ray.files import packaged


def revision() -> str:
    """Such as `0.1.0, commit HASH with local changes`; the version alone where git does not track the package.

    An environment often lies in another project's checkout, whose commit does not describe this code.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(packaged(".")), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")
        commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return __version__
    return f"{__version__}, commit {commit}" + (" with local changes" if changed else "")
