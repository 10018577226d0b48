"""Named checks: each runs by itself, prints a line, and is counted.

A check is a function whose name is a claim. It fails by any exception. It may return a sentence, which is printed, and it
may raise `Skip` where the server has nothing to be checked."""

import argparse
import sys
import time
import traceback


class Skip(Exception):
    """This server has nothing that the check is about."""


class Checks:
    """The checks of a script, in the order in which they stand there."""

    def __init__(self, title):
        self.title = title
        self.cases = []

    def case(self, function):
        """Adds a check."""
        self.cases.append((function.__name__.replace("_", " "), function))
        return function

    def run(self, args):
        """Runs all checks whose name has `--only` in it and ends the program: 1 if any failed."""
        if not any((args.only or "") in name for name, _ in self.cases):
            sys.exit(f"no check has `{args.only}` in its name")
        began = time.time()
        counts = {"ok": 0, "FAIL": 0, "skip": 0}
        for name, function in self.cases:
            if args.only and args.only not in name:
                continue
            verdict, note = "ok", None
            try:
                note = function()
            except Skip as reason:
                verdict, note = "skip", str(reason)
            except Exception as error:
                verdict, note = "FAIL", first_line(error)
                if "prompt and answer together may have" in str(error):
                    verdict, note = "skip", "the model's context is too small"
                if args.trace:
                    traceback.print_exc()
            counts[verdict] += 1
            print(f"{verdict:4} {name}" + (f": {note}" if note else ""), flush=True)
        print(
            f"{self.title}: {counts['ok']} ok, {counts['FAIL']} failed, {counts['skip']} skipped"
            f" in {time.time() - began:.1f} s"
        )
        sys.exit(1 if counts["FAIL"] else 0)


def first_line(error):
    """An error in one line, with the line of the script where it came up."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/bench/clients/" in frame.filename]
    where = f" (line {frames[-1].lineno}: {frames[-1].line})" if frames else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}{where}"


def arguments(description):
    """The arguments that all scripts have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the server is")
    parser.add_argument("--key", default="none", help="an API key, where the server wants one")
    parser.add_argument("--only", help="only checks whose name has this in it")
    parser.add_argument("--trace", action="store_true", help="show where a check failed")
    return parser


def expect(condition, what):
    """Fails with `what` unless `condition` holds."""
    if not condition:
        raise AssertionError(what)


def equal(found, expected, what=""):
    """Fails unless both are equal."""
    if found != expected:
        raise AssertionError(f"{what} is {found!r}, not {expected!r}".strip())


def refused(kind, call, **expected):
    """Calls and wants an exception of this kind, whose attributes are as expected; returns it."""
    try:
        call()
    except kind as error:
        for name, value in expected.items():
            equal(getattr(error, name), value, name)
        return error
    raise AssertionError(f"nothing was refused, {kind.__name__} was expected")
