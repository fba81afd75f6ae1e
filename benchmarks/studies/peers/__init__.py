"""Other libraries' training loops beside this project's: the same batches, weights and recipe, in alternation.

    python -m benchmarks.studies.peers --rounds 5 --threads 1

Every loop runs in a process of its own on the same cores. A round runs each loop once; the first loop of a round is the
second one of the round before. The scripts of the libraries are in `docs/peers`.
"""
