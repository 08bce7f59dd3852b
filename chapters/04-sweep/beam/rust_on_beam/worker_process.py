"""A Rust worker from outside: started, asked line by line, watched, ended.

A worker reads one JSON object a line and answers each with exactly one line that has `done`,
`failed` or `stopped`. Its first line has `ready`; lines in between tell of progress. What it
writes on stderr is for people. It ends at the end of its input, so none outlives the process
that started it.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any

LOG = logging.getLogger(__name__)

ANSWERS = ("done", "failed", "stopped")
# Failures that would come again.
FINAL_KINDS = ("diverged", "refused")
# Lines of a worker's stderr that are kept for the message when it ends.
LAST_WORDS = 8
# How long a worker may take to end once its input has ended, in seconds.
FAREWELL = 5.0
# Characters of a foreign line that a message shows.
LINE_SHOWN = 200


@dataclass(frozen=True)
class WorkerSettings:
    """How workers are started, and how long they are waited for.

    * `command`: the program and its arguments
    * `threads`: threads that it computes with; 0: the program decides
    * `start_limit`, `time_limit`: longest wait for a start and for an answer, in seconds
    * `retries`: more attempts at an element after the first
    """

    command: tuple[str, ...]
    threads: int = 1
    start_limit: float = 120.0
    time_limit: float = 3600.0
    retries: int = 2


class WorkerEnded(Exception):
    """The worker ended, or was ended, before it answered."""

    kind = "crashed"


class WorkerSilent(WorkerEnded):
    """The worker did not answer in time, and was ended."""

    kind = "silent"


class WorkerProcess:
    """One worker that runs."""

    def __init__(self, settings: WorkerSettings) -> None:
        """Starts a worker and waits until it is ready.

        Raises `WorkerEnded` with its last words if it ends before that.
        """
        environment = dict(os.environ)
        if settings.threads:
            # XLA's CPU client sizes its pools by it.
            environment["NPROC"] = str(settings.threads)
        try:
            self._process = subprocess.Popen(
                settings.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
            )
        except OSError as error:
            raise WorkerEnded(f"cannot start {settings.command[0]}: {error}") from error
        # A process id comes again; this name does not.
        self.name = f"{self._process.pid}-{uuid.uuid4().hex[:8]}"
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._last_words: deque[str] = deque(maxlen=LAST_WORDS)
        self._listeners = [
            threading.Thread(target=listen, name=f"{listen.__name__}-{self.name}", daemon=True)
            for listen in (self._read_answers, self._forward_words)
        ]
        for listener in self._listeners:
            listener.start()
        ready = self._next(time.monotonic() + settings.start_limit, "its start")
        if "ready" not in ready:
            raise self._ended(f"worker {self.name} began with {_shown(ready)}; expected ready")
        LOG.info("worker %s: started on %s", self.name, ready["ready"].get("device", "its device"))

    # ANCHOR: ask
    def ask(self, line: str, time_limit: float) -> dict[str, Any]:
        """Sends one request and waits for its answer.

        Raises `WorkerEnded` if there is none; the worker is gone then.
        """
        deadline = time.monotonic() + time_limit
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._ended(f"worker {self.name} takes no more requests") from None
        while True:
            answer = self._next(deadline, f"{time_limit:g} s")
            if any(kind in answer for kind in ANSWERS):
                return answer
            LOG.info("worker %s: %s", self.name, _shown(answer))

    # ANCHOR_END: ask

    def end(self) -> None:
        """Ends its input and waits for its end; ends it by force if that takes long."""
        try:
            self._process.stdin.close()
        except OSError:
            pass  # It has ended already.
        try:
            self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for listener, pipe in zip(self._listeners, (self._process.stdout, self._process.stderr)):
            listener.join(FAREWELL)
            # One that still listens hears a child of the worker's, and closes nothing under it.
            if not listener.is_alive():
                pipe.close()

    @property
    def lives(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def _next(self, deadline: float, limit: str) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=max(deadline - time.monotonic(), 0.0))
        except queue.Empty:
            message = f"worker {self.name} gave no answer within {limit}, and was ended"
            raise self._ended(message, WorkerSilent) from None
        if line is None:
            raise self._ended(f"worker {self.name} ended")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            shown = line[:LINE_SHOWN].decode(errors="replace")
            raise self._ended(f"worker {self.name} answered {shown!r}; expected a JSON object")
        return answer

    def _ended(self, what: str, error: type[WorkerEnded] = WorkerEnded) -> WorkerEnded:
        """Ends the worker, and tells how it ended and what it said last."""
        # Its own end, if that is near, says more than ours.
        try:
            self._process.wait(0.0 if error is WorkerSilent else 1.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self.end()
        code = self._process.returncode
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        words = " / ".join(self._last_words)
        return error(f"{what} ({how})" + (f"; its last words: {words}" if words else ""))

    def _read_answers(self) -> None:
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put(None)

    def _forward_words(self) -> None:
        for line in self._process.stderr:
            words = line.decode(errors="replace").rstrip()
            self._last_words.append(words)
            LOG.info("worker %s says: %s", self.name, words)


class WatchedWorker:
    """A worker that is there when it is asked: one that has ended is replaced."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._process: WorkerProcess | None = None

    def start(self) -> None:
        """Starts it. What keeps it from starting is an error here, and a failed row later."""
        if self._process is None or not self._process.lives:
            self._process = WorkerProcess(self._settings)

    # ANCHOR: watched
    def row(self, line: str) -> dict[str, Any]:
        """Has one element worked on; returns its row, whatever happens to the worker.

        A worker that dies or falls silent is replaced and the element tried again, so often as
        the settings say. A worker that answers `failed` is believed where it would fail again.
        """
        for attempt in range(1, self._settings.retries + 2):
            name = None
            try:
                self.start()
                name = self._process.name
                answer = self._process.ask(line, self._settings.time_limit)
            except WorkerEnded as error:
                self._process = None
                answer = {"failed": {"id": id_of(line), "kind": error.kind, "message": str(error)}}
            row = row_of(answer) | {"attempts": attempt, "worker": name}
            if row["status"] == "done" or row.get("kind") in FINAL_KINDS:
                return row
            LOG.warning("attempt %d at %s: %s", attempt, row["id"], row.get("message", row["status"]))
        return row

    # ANCHOR_END: watched

    def end(self) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.end()
            LOG.info("worker %s: ended", self._process.name)
            self._process = None


def row_of(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer as a flat row: its kind is the row's `status`."""
    status = next(kind for kind in ANSWERS if kind in answer)
    return {"status": status} | answer[status]


def id_of(line: str) -> str:
    """The id in a request; the beginning of the line if it has none."""
    try:
        request = json.loads(line)
    except ValueError:
        request = None
    if isinstance(request, dict) and isinstance(request.get("id"), str):
        return request["id"]
    return line[:LINE_SHOWN]


def _shown(answer: dict[str, Any]) -> str:
    return json.dumps(answer)[:LINE_SHOWN]
