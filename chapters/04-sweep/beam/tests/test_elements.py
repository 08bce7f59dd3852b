"""What is dealt out: each run once, in order, so many at a time."""

import unittest

from sweep import elements


class Elements(unittest.TestCase):
    def test_each_run_is_dealt_once(self):
        runs = [f'{{"id": "{number}"}}' for number in range(7)]
        for together, sizes in ((1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])):
            dealt = [element.split("\n") for element in elements(runs, together)]
            self.assertEqual([len(lines) for lines in dealt], sizes)
            self.assertEqual([line for lines in dealt for line in lines], runs)

    def test_of_no_runs_there_is_none(self):
        self.assertEqual(elements([], 3), [])


if __name__ == "__main__":
    unittest.main()
