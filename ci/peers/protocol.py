"""The messages of `cargo x peers`: one JSON object a line in, one a line out.

What all contenders share: the loop, refusals, and the counts of a `run` message.
Everything but the answers goes to standard error, libraries' own prints included.
"""

import json
import os
import sys


class Unsupported(Exception):
    """The engine or the machine lacks what was asked for: a skipped row, not a failed one."""


def run_counts(body):
    """{"warmup": n, "samples": n} of a `run` message, checked."""
    counts = {}
    for key, least in (("warmup", 0), ("samples", 1)):
        counts[key] = body.get(key)
        if not isinstance(counts[key], int) or isinstance(counts[key], bool) or counts[key] < least:
            raise ValueError(f"run: {key!r} must be an integer of at least {least}, got {json.dumps(counts[key])}")
    return counts


def check_fields(kind, body, fields):
    """Raises ValueError that names the first field that is missing or of another type.

    * `fields`: {name: str, int or float}; an int must be at least 1
    """
    for key, expected in fields.items():
        value = body.get(key)
        accepted = (int, float) if expected is float else expected
        if not isinstance(value, accepted) or isinstance(value, bool) or (expected is int and value < 1):
            words = {str: "a string", int: "a positive integer", float: "a number"}[expected]
            raise ValueError(f"{kind}: {key!r} must be {words}, got {json.dumps(value)}")


def serve(worker):
    """Answers with `worker.answer(message)` until the input ends; returns the exit status."""
    # Libraries print to descriptor 1 from C++; the protocol keeps a copy of it
    # for itself and the rest goes to standard error.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Unsupported as error:
            answer = {"error": str(error), "unsupported": True}
        except Exception as error:  # whatever an engine raises is this contender's answer
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    return 0
