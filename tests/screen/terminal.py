#!/usr/bin/env python3
"""Runs a program in a terminal of its own, and does what it is told on stdin.

Arguments: columns, rows, the program and its arguments. Each line of stdin is a JSON list: ["screen"] tells what was
written since the last time (base64), ["type", text], ["size", columns, rows], ["signal", name], ["hangup"],
["stall"] lets nothing more be taken from the terminal,
["modes"] tells whether the terminal echoes and edits lines, ["end", seconds] tells the exit code (negative: a signal).
Each is answered with one line of JSON: {"ok": value} or {"error": text}.
"""

import base64
import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import threading
import time


class Terminal:
    def __init__(self, columns, rows, program):
        self.written, self.lock, self.stalled = b"", threading.Lock(), False
        self.master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.child = os.fork()
        if self.child == 0:
            os.setsid()
            fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)
            for stream in [0, 1, 2]:
                os.dup2(self.slave, stream)
            os.closerange(3, 256)
            os.execvp(program[0], program)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        # Reading fails once the terminal has been hung up.
        try:
            while not self.stalled:
                if select.select([self.master], [], [], 0.05)[0]:
                    data = os.read(self.master, 65536)
                    with self.lock:
                        self.written += data
        except (OSError, ValueError):
            pass

    def do(self, what, *given):
        if what == "screen":
            with self.lock:
                written, self.written = self.written, b""
            return base64.b64encode(written).decode()
        if what == "type":
            return os.write(self.master, given[0].encode())
        if what == "size":
            # The kernel tells the program (SIGWINCH).
            return fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", given[1], given[0], 0, 0)) and None
        if what == "signal":
            return os.kill(self.child, getattr(signal, f"SIG{given[0]}"))
        if what == "hangup":
            os.close(self.slave)
            return os.close(self.master)
        if what == "stall":
            self.stalled = True
            return None
        if what == "modes":
            local = termios.tcgetattr(self.slave)[3]
            return [bool(local & termios.ECHO), bool(local & termios.ICANON)]
        if what == "end":
            deadline = time.monotonic() + given[0]
            while time.monotonic() < deadline:
                child, status = os.waitpid(self.child, os.WNOHANG)
                if child:
                    return os.waitstatus_to_exitcode(status)
                time.sleep(0.02)
            raise TimeoutError("it goes on")
        if what == "time":
            with open(f"/proc/{self.child}/stat") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        raise ValueError(what)


def main():
    terminal = Terminal(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
    try:
        for line in sys.stdin:
            try:
                answer = {"ok": terminal.do(*json.loads(line))}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)
    finally:
        try:
            os.kill(terminal.child, signal.SIGKILL)
        except ProcessLookupError:
            pass


main()
