"""Runs a program on a terminal of its own, as a person does: whenever it asks for a passphrase without showing what is typed,
the passphrase is typed. What the program writes goes to stdout; its exit code is this one's.

Called as: typist.py PASSPHRASE PROGRAM ARGUMENTS…
"""
import os
import pty
import select
import signal
import sys
import termios
import time


def is_hidden(terminal):
    return not termios.tcgetattr(terminal)[3] & termios.ECHO


def main():
    passphrase, *argv = sys.argv[1:]
    child, terminal = pty.fork()
    if child == 0:
        os.execvp(argv[0], argv)
    unanswered, deadline, status = b"", time.monotonic() + 600, None
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 0.02)[0]:
            try:
                some = os.read(terminal, 65536)
            except OSError:
                some = b""
            if some:
                unanswered += some
                os.write(1, some)
                continue
        if status is not None:
            # What it left in the background may hold the terminal for ever.
            return os.waitstatus_to_exitcode(status)
        ended, how = os.waitpid(child, os.WNOHANG)
        if ended:
            # Once more for what was written last.
            status = how
            continue
        line = unanswered.rsplit(b"\n", 1)[-1]
        if b"assphrase" in line and line.endswith(b": ") and is_hidden(terminal):
            unanswered = b""
            os.write(terminal, passphrase.encode() + b"\n")
    os.kill(child, signal.SIGKILL)
    return 1


if __name__ == "__main__":
    sys.exit(main())
