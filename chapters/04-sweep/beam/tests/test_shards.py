"""Pictures cut into shards, and their answers counted."""

import json
import os
import tempfile
import unittest
from pathlib import Path

from rust_on_beam import shards


class Shards(unittest.TestCase):
    def test_pictures_are_found_by_name_and_sorted(self):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "b").mkdir()
            (folder / ".hidden").mkdir()
            for path in ("z.PNG", "a.jpeg", "b/c.jpg", "b/notes.txt", ".x.png", ".hidden/y.png"):
                (folder / path).touch()
            with open(os.fsencode(folder) + b"/\xff.png", "wb"):
                pass
            self.assertEqual(shards.images_below(folder), (["a.jpeg", "b/c.jpg", "z.PNG"], 1))

    def test_every_path_is_in_one_shard(self):
        lines = [json.loads(line) for line in shards.requests([str(n) for n in range(7)], 3)]
        self.assertEqual([line["id"] for line in lines], ["shard-00000", "shard-00001", "shard-00002"])
        self.assertEqual([path for line in lines for path in line["paths"]], [str(n) for n in range(7)])

    def test_counts_add_up(self):
        good = {"path": "a.png", "top": [{"class": 1, "name": "one", "probability": 0.9}]}
        bad = {"path": "b.png", "error": "cut short"}
        done = {"status": "done", "id": "shard-1", "worker": "1-a", "attempts": 1, "predictions": [good], "bad": [bad]}
        lost = {"status": "failed", "id": "shard-0", "worker": None, "attempts": 3, "message": "signal 9"}
        self.assertEqual([json.loads(line)["path"] for line in shards.lines_of(done).splitlines()], ["a.png", "b.png"])
        result = shards.result_of(shards.counts_of(row) for row in (done, lost))
        self.assertEqual((result["images"], result["predicted"], result["bad"]), (2, 1, 1))
        self.assertEqual(result["bad_images"], [bad])
        self.assertEqual([row["id"] for row in result["failed_shards"]], ["shard-0"])
        self.assertEqual(result["workers"], 1)


if __name__ == "__main__":
    unittest.main()
