"""What frameworks say becomes one line that a person can read."""

from __future__ import annotations

import pytest

from harness.errors import LONGEST, one_line
from harness.process.worker import classify

KERAS = """Exception encountered when calling Functional.call().

\x1b[1mInvalid input shape for input Tensor("data:0", shape=(16, 3, 64, 64)).\x1b[0m

Arguments received by Functional.call():
  • inputs=tf.Tensor(shape=(16, 3, 64, 64), dtype=float32)
  • training=True
  • mask=None"""
TENSORFLOW = """Graph execution error:

Detected at node Conv2D defined at (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main

  File "/keras/src/backend/tensorflow/nn.py", line 301, in conv

Incompatible shapes: [16,8] vs. [16,9]
\t [[{{node sub}}]] [Op:__inference_step_77]"""
TORCH = """The size of tensor a (8) must match the size of tensor b (9) at non-singleton dimension 1
Exception raised from infer_size_impl at ExpandUtils.cpp:31 (most recent call first):
frame #0: c10::Error::Error + 0x96 (0x7f libc10.so)"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            KERAS,
            "Exception encountered when calling Functional.call(). Invalid input shape for input "
            'Tensor("data:0", shape=(16, 3, 64, 64)).',
        ),
        (
            TENSORFLOW,
            "Graph execution error: Incompatible shapes: [16,8] vs. [16,9] [[{{node sub}}]] [Op:__inference_step_77]",
        ),
        (TORCH, "The size of tensor a (8) must match the size of tensor b (9) at non-singleton dimension 1"),
        ("\x1b]8;;https://example.org\x07docs\x1b]8;;\x07 \x1b[38;5;9mred\x1b[m", "docs red"),
        ("no file two\x00\x07 \udcff", r"no file two\x00\x07 \xff"),
    ],
    ids=["Keras", "TensorFlow", "torch", "escape codes", "control characters"],
)
def test_escape_codes_stacks_and_listed_arguments_are_left_out(text: str, line: str) -> None:
    assert one_line(text) == line
    assert classify(ValueError(text)) == ("failed", f"ValueError: {line}")


def test_a_long_message_ends_after_a_word() -> None:
    text = "word " * 1000
    assert len(one_line(text)) <= LONGEST
    assert one_line(text).endswith("word…")
    assert one_line("x" * 1000) == "x" * (LONGEST - 1) + "…"
    assert one_line("short", 5) == "short"


def test_batch_norm_on_one_value_says_what_to_do() -> None:
    said = "Expected more than 1 value per channel when training, got input size torch.Size([1, 512, 1, 1])"
    status, reason = classify(ValueError(said))
    assert status == "failed"
    assert reason == f"ValueError: {said}; batch norm needs more: use a larger --batch-size or --image-size"
