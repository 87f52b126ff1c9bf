"""A command of mpcnet that does not outlive who started it: `python -m mpcnet.launch.tether COMMAND ...`.

Its standard input is a pipe from the starter, who writes nothing into it. The kernel closes the pipe when the starter
ends, however it ends, SIGKILL included; then this process is asked to stop, and killed if that takes long.
"""

from __future__ import annotations

import os
import signal
import threading
import time

from mpcnet.launch import cli

GRACE_S = 5.0  # for an orderly end; a run that takes longer has nobody left to answer


def main() -> None:
    """Run the command line beside a thread that watches standard input."""
    threading.Thread(target=_watch, name="tether", daemon=True).start()
    cli.main()


def _watch() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    main()
