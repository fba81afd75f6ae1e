"""A process that writes a run and is killed, again and again: `python -m tests.results.killing FOLDER TIMES SEED`.

Prints how many rows were lost, doubled or torn over all kills, as JSON. A process of its own, since it forks.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from harness.spec import key
from results.storage.rows import ProcessRow, scan
from results.storage.run_files import open_run, unfinished
from tests.results.records import MACHINE, build

ROWS = 40
RECORDS = [build(seed=seed) for seed in range(ROWS)]
KEYS = [key(record.case) for record in RECORDS]


def write(folder: Path, written: int) -> None:
    """Write what is missing of the run; after each row that is on the disk a byte goes to the pipe."""
    earlier = unfinished(folder, MACHINE)
    done = earlier.done if earlier else frozenset()
    with open_run(
        folder, command=["run"], planned=KEYS, machine=MACHINE, environment={"system": "Linux"}, resume=earlier
    ) as run:
        for name, record in zip(KEYS, RECORDS, strict=True):
            if name not in done:
                run.append(record)
                os.write(written, b".")
        run.finish()


def kill_once(folder: Path, after_s: float) -> tuple[int, bool]:
    """Rows that the writer said were on the disk before it was killed, and whether it had finished."""
    read, written = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        write(folder, written)
        os._exit(0)
    os.close(written)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    said = b""
    while chunk := os.read(read, 65536):
        said += chunk
    os.close(read)
    return len(said), os.WIFEXITED(status)


def main(folder: Path, times: int, seed: int) -> dict[str, int]:
    draw = random.Random(seed)
    kills = lost = doubled = torn = runs = 0
    while kills < times:
        place = folder / str(runs)
        runs += 1
        promised, finished = 0, False
        while not finished:
            said, ended = kill_once(place, draw.expovariate(1 / 0.02))
            kills += not ended
            promised += said
            files = list(place.rglob("*.jsonl"))
            lines = [line for file in files for line in scan(file)]
            keys = [line.row.record.key for line in lines if isinstance(line.row, ProcessRow)]
            lost += max(0, promised - len(keys))
            promised = len(keys)  # a row may be on the disk before its writer could say so
            doubled += len(keys) - len(set(keys))
            torn += sum(line.fault not in (None, "cut") for line in lines)
            finished = bool(keys) and unfinished(place, MACHINE) is None
        # A kill before the first row leaves an empty file behind, which is no run.
        doubled += sum(file.stat().st_size > 0 for file in files) - 1
        lost += len(set(KEYS) - set(keys))
    return {"kills": kills, "runs": runs, "lost": lost, "doubled": doubled, "torn": torn}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
