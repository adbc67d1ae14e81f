"""A classifier on a pre-trained backbone: fine-tuning and the linear probe."""

from pathlib import Path
from typing import Literal

from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn

from gaze_lightning.errors import ConfigurationError
from gaze_lightning.protocols import LabelType, NamesPatients
from gaze_lightning.tasks.base import OptimizerName, ScheduleName
from gaze_lightning.tasks.classifier import Classifier
from gaze_lightning.tasks.pretraining_run import SCRATCH, PretrainingRun, read_pretrained, refuse_part


class PretrainedClassifier(Classifier):
    """`Classifier` whose backbone starts from a pre-training run, never from random weights by accident.

    Where the weights come from a run of this project, its backbone must be the same, every key must fit, and none of
    the patients to be tested here may have been in its training or validation part, or in those of the runs from which
    it started itself.

    Logs what `Classifier` logs. With everything frozen but ``model.head`` (a stage of ``StagedTraining``) it is the
    linear probe: a linear layer on pooled features.

    Args:
        class_names: names of the ``K`` classes, in the order of labels and maps.
        label_type: ``"single"`` (exclusive classes) or ``"multi"`` (independent classes).
        pretrained: folder of a pre-training run (its ``best`` checkpoint), one of its checkpoints, or a weights file;
            ``scratch``: random weights, as a control. Must be given; read when training starts, not when it resumes.
        backbone: the one that was pre-trained.
        in_chans: channels of its first layer; 3 repeats the film.
        output_stride: pixels per cell of the maps.
        mean: subtracted from the films (range [0, 1]).
        std: divides the films.
        divide_by_max: divide each film by its maximum before that.
        cam_scale: ``mean`` (published 1/C; stalls short trainings) or ``sum``.
        channels_last: memory format; faster on CPUs and with mixed precision.
        optimizer: ``adam``, ``adamw``, ``sgd`` or ``lars``.
        lr: learning rate, with a schedule its largest value.
        weight_decay: of matrices and kernels only.
        schedule: ``constant``, ``one_cycle`` or ``cosine``.
        warmup: rising fraction of a schedule.

    Raises:
        ConfigurationError: ``pretrained`` is not given.
    """

    def __init__(
        self,
        class_names: list[str],
        label_type: LabelType = "single",
        pretrained: str = "",
        backbone: str = "resnet50",
        in_chans: int = 1,
        output_stride: int = 32,
        mean: float = 0.0,
        std: float = 1.0,
        divide_by_max: bool = False,
        cam_scale: Literal["mean", "sum"] = "sum",
        channels_last: bool = False,
        optimizer: OptimizerName = "adam",
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        schedule: ScheduleName = "constant",
        warmup: float = 0.25,
    ) -> None:
        if not pretrained:
            raise ConfigurationError(
                f"This experiment starts from a pre-training of {backbone}, and none was named. First\n"
                f"  make train EXP=mcgip_moco_{backbone}        (or another mcgip_..., or ssl_... without gaze)\n"
                f"then give the folder of that run: PRETRAINED=runs/mcgip_moco_{backbone}/<run id>\n"
                f"PRETRAINED={SCRATCH} trains from random weights, as a control."
            )
        super().__init__(
            class_names=class_names,
            label_type=label_type,
            backbone=backbone,
            in_chans=in_chans,
            output_stride=output_stride,
            mean=mean,
            std=std,
            divide_by_max=divide_by_max,
            cam_scale=cam_scale,
            channels_last=channels_last,
            optimizer=optimizer,
            lr=lr,
            weight_decay=weight_decay,
            schedule=schedule,
            warmup=warmup,
        )
        self.save_hyperparameters(logger=False)
        self._weights = pretrained

    def read_weights(self) -> None:
        """Fill the backbone. A run that goes on does not come here: it has looked for a leak when it began.

        Raises:
            ConfigurationError: the weights do not fit, do not exist, or have seen patients of the test part.
        """
        if self._weights == SCRATCH:
            rank_zero_info("Pre-trained weights: none, as asked (pretrained: scratch). This is a control.")
            return
        backbone = self.model.backbone
        report, run = read_pretrained(backbone, self._weights)
        path = Path(self._weights)
        refuse_part(report, path, backbone)
        if run is None:
            rank_zero_warn(
                f"{path.name} is not a run of this project: whether its weights have seen test patients cannot be "
                "checked"
            )
        else:
            self._refuse_leak(run)
        rank_zero_info(f"Pre-trained weights: {report}")

    def _refuse_leak(self, run: PretrainingRun) -> None:
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        named = isinstance(data, NamesPatients)
        reasons = [*run.unchecked, *([] if named else ["the data do not name patients"])]
        if reasons:
            rank_zero_warn(
                f"Whether the weights have seen test patients cannot be checked, or not of all: {'; '.join(reasons)}"
            )
        if not named or run.learnt_from is None or run.known is None:
            return
        tested = data.patients("test")
        run.refuse_leak(tested)
        if run.known.isdisjoint(tested | data.patients("train") | data.patients("validate")):
            rank_zero_warn(
                "These data and those of the pre-training have no patient in common: either these are other patients, "
                "or patients are named differently in the two sources. Then the check for test patients that the "
                "weights have seen says nothing"
            )
        elif not run.unchecked:
            rank_zero_info(f"None of the {len(tested)} test patients was in the pre-training.")
