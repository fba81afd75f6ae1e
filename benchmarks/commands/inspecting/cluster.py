"""`cluster`: show the nodes of a Ray cluster and what runs there."""

from __future__ import annotations

import sys

import click

from benchmarks.choosing.documents import json_option, print_json
from benchmarks.choosing.options import GroupedCommand
from benchmarks.cluster.extra import needs_ray
from benchmarks.cluster.overview import ClusterNode, table
from benchmarks.running.terminal import aligned


@click.command(cls=GroupedCommand)
@click.argument("address", metavar="ADDRESS", help="ray (on this machine), HOST:PORT or ray://HOST:PORT")
@json_option(lambda: list[ClusterNode])
def command(address: str, json_: bool) -> None:
    """Show the nodes of a Ray cluster, and what runs there.

    Each node starts one short process, which may disturb a case that runs there. A node without slots measures
    nothing. Exits with 3 if a node cannot be used by `run --cluster`, for example because its packages differ.
    """
    with needs_ray("cluster"):
        from benchmarks.cluster.ray_pool import overview
    nodes = overview(address)
    if json_:
        print_json(nodes)
    else:
        click.echo(aligned(table(nodes), right={1, 2, 3, 9}))
    problems = [f"node {node.address} {node.problem}" for node in nodes if node.problem]
    for problem in problems:
        click.echo(f"! {problem}", err=True)
    sys.exit(3 if problems else 0)
