"""A plugin that brings a scenario: first the head, then everything gently."""

from __future__ import annotations

from harness.spec import Scenario, Stage

SCENARIOS = [
    Scenario(
        name="head-then-all",
        explanation="the head alone at 0.1, then everything at 0.01",
        stages=(
            Stage(epochs=1, head_lr=0.1, backbone_lr=0.0, frozen="backbone", batch_size=8),
            Stage(epochs=1, head_lr=0.01, backbone_lr=0.01, batch_size=8),
        ),
        start="random",
    )
]
