"""fastai's `Learner` with its own SGD at a constant rate, without log and validation.

fastai's progress bar is a callback that is not imported here.

If the backbone is frozen, `train_bn=False` keeps its batch-norm parameters fixed; fastai trains them by default, which
is another recipe. Its statistics move.
"""

from __future__ import annotations

from functools import partial

from fastai.callback.core import Callback, CancelValidException
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.losses import CrossEntropyLossFlat
from fastai.optimizer import SGD
from fastai.torch_core import params
from task import Task
from torch import nn
from torchvision import models

task = Task()


class StepDone(Callback):
    def after_batch(self) -> None:
        task.step_done(self.learn.loss.detach())

    def before_validate(self) -> None:
        raise CancelValidException


def body_and_head(model: nn.Module) -> list[list[nn.Parameter]]:
    return [[p for name, p in model.named_parameters() if not name.startswith("fc.")], params(model.fc)]


loader = task.loader()
learn = Learner(
    DataLoaders(loader, loader, device="cpu"),
    task.load(models.resnet18(num_classes=task.classes)),
    loss_func=CrossEntropyLossFlat(),
    opt_func=partial(SGD, mom=task.momentum),
    splitter=body_and_head,
    train_bn=False,
    cbs=StepDone(),
)
if task.frozen:
    learn.freeze()
with learn.no_logging():
    learn.fit(task.epochs, lr=task.lr)
task.write()
