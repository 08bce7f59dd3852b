"""What becomes of an element when its worker answers, dies, hangs or babbles."""

import json
import os
import sys
import tempfile
import time
import unittest
from pathlib import Path

from rust_on_beam.worker_process import WatchedWorker, WorkerEnded, WorkerProcess, WorkerSettings, id_of

FAKE = str(Path(__file__).with_name("fake_worker.py"))


def settings(*words: str, **changes) -> WorkerSettings:
    return WorkerSettings(command=(sys.executable, FAKE, *words), start_limit=60, **changes)


def line(do: str, run: str = "a") -> str:
    return json.dumps({"id": run, "do": do})


class Watched(unittest.TestCase):
    def worker(self, *words: str, **changes) -> WatchedWorker:
        worker = WatchedWorker(settings(*words, **changes))
        self.addCleanup(worker.end)
        return worker

    def test_one_process_answers_all_elements(self):
        worker = self.worker(threads=3)
        rows = [worker.row(line("answer", run)) for run in "abc"]
        self.assertEqual([row["id"] for row in rows], ["a", "b", "c"])
        self.assertEqual({row["status"] for row in rows}, {"done"})
        self.assertEqual({row["threads"] for row in rows}, {"3"})
        self.assertEqual(len({row["worker"] for row in rows}), 1)

    def test_a_worker_that_dies_is_replaced_and_the_element_tried_again(self):
        with tempfile.TemporaryDirectory() as folder:
            worker = self.worker(folder)
            first = worker.row(line("die-once"))
            second = worker.row(line("answer", "b"))
        self.assertEqual((first["status"], first["attempts"]), ("done", 2))
        self.assertEqual(second["worker"], first["worker"])

    def test_attempts_are_bounded_and_the_last_words_are_told(self):
        row = self.worker(retries=1).row(line("die"))
        self.assertEqual((row["status"], row["kind"], row["attempts"]), ("failed", "crashed", 2))
        self.assertEqual(row["id"], "a")
        self.assertIn("signal 9", row["message"])
        self.assertIn("out of memory", row["message"])

    def test_a_silent_worker_is_ended(self):
        worker = self.worker(retries=0, time_limit=0.5)
        start = time.monotonic()
        row = worker.row(line("hang"))
        self.assertEqual((row["status"], row["kind"]), ("failed", "silent"))
        self.assertIn("no answer within 0.5 s", row["message"])
        self.assertLess(time.monotonic() - start, 30)
        self.assertEqual(worker.row(line("answer"))["status"], "done")

    def test_what_is_no_answer_ends_the_worker(self):
        row = self.worker(retries=0).row(line("babble"))
        self.assertEqual((row["status"], row["kind"]), ("failed", "crashed"))
        self.assertIn("'hello", row["message"])

    def test_only_what_may_pass_is_tried_again(self):
        worker = self.worker(retries=2)
        self.assertEqual(worker.row(line("fail"))["attempts"], 3)
        self.assertEqual(worker.row(line("refuse"))["attempts"], 1)
        row = worker.row("no json")
        self.assertEqual((row["status"], row["kind"], row["attempts"]), ("failed", "refused", 1))

    def test_a_worker_that_cannot_start_is_an_error_with_its_words(self):
        with self.assertRaisesRegex(WorkerEnded, r"exit code 3.*error: no device"):
            WatchedWorker(settings("never-ready")).start()
        with self.assertRaisesRegex(WorkerEnded, "cannot start /nowhere/worker"):
            WatchedWorker(WorkerSettings(command=("/nowhere/worker",))).start()

    def test_words_are_forwarded_to_the_log(self):
        with self.assertLogs("rust_on_beam.worker_process", "INFO") as log:
            self.worker(retries=0).row(line("die"))
        self.assertTrue(any("says: out of memory" in words for words in log.output), log.output)

    def test_the_end_of_the_input_ends_it(self):
        process = WorkerProcess(settings())
        process.end()
        self.assertFalse(process.lives)
        self.assertFalse(os.path.exists(f"/proc/{process.name.split('-')[0]}/cmdline"))


class Ids(unittest.TestCase):
    def test_a_line_without_an_id_is_named_by_its_beginning(self):
        self.assertEqual(id_of('{"id": "x"}'), "x")
        self.assertEqual(id_of('{"id": 7}'), '{"id": 7}')
        self.assertEqual(id_of("y" * 1000), "y" * 200)


if __name__ == "__main__":
    unittest.main()
