"""A server as a child of a script: started, waited for, measured, stopped or killed."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request


def fathom(args, scratch, *more):
    """What starts Fathom on `args.model`, its store in `scratch`; `--fathom-args` come last and win."""
    own = (args.fathom_args or "").split()
    store = ["--store", f"{scratch}/store.sqlite"]
    return [args.fathom, "serve", args.model, "--port", "{port}", "--quiet", *store, *map(str, more), *own]


class Server:
    """A server that runs. `command` is what starts it; `{port}` in it stands for a free port."""

    def __init__(self, command, port=None, log=None, env=None, patience=600):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [part.format(port=self.port) for part in command]
        self.log = open(log, "ab") if log else subprocess.DEVNULL
        began = time.perf_counter()
        self.process = subprocess.Popen(
            self.command, stdout=self.log, stderr=self.log, env={**os.environ, **(env or {})}
        )
        self.wait(patience)
        self.start_s = time.perf_counter() - began

    def wait(self, patience):
        """Waits until the server answers. A server that ended is an error."""
        until = time.time() + patience
        while time.time() < until:
            if self.process.poll() is not None:
                raise RuntimeError(f"`{' '.join(self.command)}` ended with {self.process.returncode}")
            try:
                if urllib.request.urlopen(f"{self.url}/health", timeout=5).status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        self.kill()
        raise RuntimeError(f"no answer from {self.url} after {patience} s")

    def rss_mib(self):
        """Resident memory, without pages of files that are mapped."""
        fields = dict(
            line.split(":", 1) for line in open(f"/proc/{self.process.pid}/status", encoding="ascii") if ":" in line
        )
        return int(fields["RssAnon"].split()[0]) / 1024

    def cpu_s(self):
        """Seconds of processor time so far."""
        fields = open(f"/proc/{self.process.pid}/stat", encoding="ascii").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def n_files(self):
        """Open files, sockets among them."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def stop(self, patience=60):
        """As Ctrl-C does. Gives the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        return self.process.wait(patience)

    def kill(self):
        """As a crash does."""
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.stop()
        except subprocess.TimeoutExpired:
            self.kill()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def metrics(url):
    """The figures of `/metrics` without labels."""
    text = urllib.request.urlopen(f"{url}/metrics", timeout=10).read().decode()
    lines = (line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, value in lines}


def version(program):
    """What a program says of itself."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True)
    return (said.stdout or said.stderr).strip().splitlines()[0]


def show(table):
    """Prints rows of text in columns."""
    widths = [max(len(str(row[column])) for row in table) for column in range(len(table[0]))]
    for row in table:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths)).rstrip(), flush=True)


def dump(path, value):
    """Writes figures for programs."""
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(value, file, indent=1)
