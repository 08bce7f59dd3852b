"""Writes a requirements file with hashes from pip's own reports.

    python pin_requirements.py REPORT.json... > requirements-cpu-py311.txt

Each report is what `pip install --dry-run --report` says for one platform; the
README has the commands. A package that only some platforms need gets a marker.
Standard library only, so that any Python can run it.
"""

import json
import re
import sys


def read_report(path):
    """{name: (version, sha256)} and the machine name ("x86_64", "aarch64") of one report."""
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    machines, packages = set(), {}
    for item in report["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        info = item["download_info"]
        packages[name] = (item["metadata"]["version"], info["archive_info"]["hashes"]["sha256"])
        machines.update(re.findall(r"(x86_64|aarch64)\.whl$", info["url"]))
    if len(machines) != 1:
        raise SystemExit(f"{path}: expected the wheels of one machine, got {sorted(machines) or 'none'}")
    return machines.pop(), packages


def main(paths):
    if not paths:
        raise SystemExit(__doc__)
    reports = dict(read_report(path) for path in paths)
    names = sorted({name for packages in reports.values() for name in packages})
    print("# Made by pin_requirements.py; README.md says how. Do not edit by hand.")
    print(f"# Platforms: {', '.join('Linux ' + machine for machine in reports)}.")
    for name in names:
        holders = {machine: packages[name] for machine, packages in reports.items() if name in packages}
        versions = {version for version, _ in holders.values()}
        if len(versions) != 1:
            raise SystemExit(f"{name}: the reports disagree on its version: {sorted(versions)}")
        line = f"{name}=={versions.pop()}"
        if len(holders) != len(reports):
            line += " ; " + " or ".join(f'platform_machine == "{machine}"' for machine in sorted(holders))
        hashes = sorted({sha256 for _, sha256 in holders.values()})
        print(" \\\n".join([line] + [f"    --hash=sha256:{sha256}" for sha256 in hashes]))


if __name__ == "__main__":
    main(sys.argv[1:])
