"""The winner is that of chapters/04-sweep/src/selection.rs, whatever the order of the rows."""

import itertools
import unittest

from rust_on_beam.selection import result_of


def run(name: str, accuracy: float, loss: float, worker: str = "1-a") -> dict:
    return {"status": "done", "id": name, "validation": {"accuracy": accuracy, "loss": loss}, "worker": worker}


def failed(name: str, message: str = "no luck") -> dict:
    return {"status": "failed", "id": name, "kind": "other", "message": message, "worker": None}


class Selection(unittest.TestCase):
    def test_ties_are_broken_by_loss_and_then_by_name(self):
        rows = [run("a", 0.9, 0.3), run("b", 0.9, 0.2), run("c", 0.95, 0.9), run("d", 0.9, 0.2)]
        for order in itertools.permutations(rows):
            result = result_of(order)
            self.assertEqual([row["id"] for row in result["runs"]], ["c", "b", "d", "a"])
            self.assertEqual(result["winner"], "c")

    def test_failures_come_last_and_are_counted(self):
        rows = [failed("z"), run("a", 0.1, 2.0, "7-b"), failed("", "one"), failed("", "two"), run("b", 0.2, 2.0)]
        results = {str(result_of(order)) for order in itertools.permutations(rows)}
        self.assertEqual(len(results), 1)
        result = result_of(rows)
        self.assertEqual((result["done"], result["failed"], result["workers"]), (2, 3, 2))
        self.assertEqual([row["id"] for row in result["runs"]], ["b", "a", "", "", "z"])

    def test_without_a_run_that_is_done_there_is_no_winner(self):
        self.assertIsNone(result_of([failed("a")])["winner"])
        self.assertIsNone(result_of([])["winner"])


if __name__ == "__main__":
    unittest.main()
