"""A worker for the tests: answers as its requests tell it to.

    {"id": ID, "do": "answer" | "fail" | "refuse" | "die" | "hang" | "babble"}

`die-once`, with a folder as its argument, dies at the first request and answers all later ones.
"""

import json
import os
import sys
import time
from pathlib import Path


def say(message):
    print(json.dumps(message), flush=True)


def main():
    if sys.argv[1:2] == ["never-ready"]:
        print("error: no device", file=sys.stderr)
        sys.exit(3)
    say({"ready": {"device": "none"}})
    for line in sys.stdin:
        try:
            request = json.loads(line)
        except ValueError:
            say({"failed": {"id": "", "kind": "refused", "message": "expected a JSON object a line"}})
            continue
        run, do = request["id"], request["do"]
        say({"epoch": {"id": run, "epoch": 1}})
        if do == "die-once":
            mark = Path(sys.argv[1]) / run
            do = "answer" if mark.exists() else "die"
            mark.touch()
        if do == "answer":
            say({"done": {"id": run, "threads": os.environ.get("NPROC")}})
        elif do in ("fail", "refuse"):
            kind = {"fail": "other", "refuse": "refused"}[do]
            say({"failed": {"id": run, "kind": kind, "message": "no luck"}})
        elif do == "die":
            print("out of memory", file=sys.stderr, flush=True)
            os.kill(os.getpid(), 9)
        elif do == "hang":
            time.sleep(600)
        elif do == "babble":
            print("hello", flush=True)


if __name__ == "__main__":
    main()
