"""Programs that take turns: one round of each after the other, so that all meet the same machine.

A program prints {"ready": …} before each round and waits for a line. Between two such lines only it
works; results are the other lines of JSON it prints.
"""

import json
import queue
import subprocess
import sys
import threading
import time


class Program:
    def __init__(self, name, command, timeout_s):
        self.name, self.command, self.timeout_s = name, [str(word) for word in command], timeout_s
        self.results, self.error, self.alive = [], None, True
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines, self.said = queue.Queue(), []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=lambda: self.said.extend(self.process.stderr), daemon=True).start()
        self._until_ready()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def _until_ready(self):
        """Waits until it is ready for a round, or has ended; keeps what it prints."""
        end = time.monotonic() + self.timeout_s
        while True:
            try:
                line = self.lines.get(timeout=max(0.1, end - time.monotonic()))
            except queue.Empty:
                return self._fail(f"no answer in {self.timeout_s} s")
            if line is None:
                self.alive = False
                if self.process.wait() != 0:
                    self._fail(f"ended with code {self.process.returncode}")
                return
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if "ready" in value:
                return
            self.results.append(value)

    def _fail(self, why):
        self.alive = False
        self.process.kill()
        self.process.wait()
        lines = [line.strip() for line in self.said if line.strip()]
        self.error = why + (f": {lines[-1]}" if lines else "")
        print(f"note: {self.name}: {self.error} ({' '.join(self.command)})", file=sys.stderr)

    def round(self):
        try:
            self.process.stdin.write("\n")
            self.process.stdin.flush()
        except OSError:
            pass
        self._until_ready()


def take_turns(commands, timeout_s=900):
    """Runs the programs of `commands` (name to words), round by round; returns name to its results."""
    programs = []
    for name, command in commands.items():
        try:
            programs.append(Program(name, command, timeout_s))
        except OSError as error:
            print(f"note: {name} cannot be started: {error}", file=sys.stderr)
    while any(program.alive for program in programs):
        for program in programs:
            if program.alive:
                program.round()
    return {program.name: program.results for program in programs if program.results}


def run_json(command, timeout_s=900):
    """The last line of JSON that a program prints; None, with a note, if it fails."""
    command = [str(word) for word in command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"note: {command[0]}: {error}", file=sys.stderr)
        return None
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not lines:
        said = (done.stderr.strip().splitlines() or ["said nothing"])[-1]
        print(f"note: {' '.join(command)}: {said}", file=sys.stderr)
        return None
    return json.loads(lines[-1])
