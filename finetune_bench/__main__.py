"""The command `finetune-bench`, and `python -m finetune_bench`."""

from __future__ import annotations

from benchmarks.cli import main

if __name__ == "__main__":
    main()
