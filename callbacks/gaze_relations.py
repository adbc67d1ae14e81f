"""Relations between the training readings for tasks that learn from them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pytorch_lightning import Callback, LightningModule, Trainer
from torch.distributed import ProcessGroup

from callbacks.gathering import all_ranks, data_note, patience
from callbacks.panel_parts import save_png
from callbacks.relation_page import draw_relation_page
from gaze_lightning.errors import ConfigurationError
from gaze_lightning.evaluation.files import replacing
from gaze_lightning.gaze import similarity
from gaze_lightning.gaze.similarity import MapCC
from gaze_lightning.gaze.similarity.gaze_similarity import GazeSimilarity
from gaze_lightning.protocols import LearnsFromRelations, OffersTrainingGaze, OffersTwoViews, TrainingGaze
from gaze_lightning.relations import Artefact, open_artefact, print_statistics

_DEFAULT_RATE = 0.01
_Found = TypeVar("_Found")


class GazeRelations(Callback):
    """Find or build the relations that a task takes as positives; other tasks are left alone.

    They are built before training where they are not there yet (`gaze_lightning.relations.open_artefact`), by the first
    process of each machine; what was built before a kill is kept. What the threshold means is printed once, and written
    into the run folder as ``relations.json`` (without ids), beside ``relations.png`` with examples. Both describe the
    gaze, also where the task shuffles its relations as a control (``used_as`` in ``relations.json``).

    Args:
        measure: of gaze similarity; null: `MapCC`, with ``file`` whichever that has.
        tau: similarity above which two readings are related.
        positive_rate: or the share of the pairs of readings that are related. Neither of the two: 0.01, with ``file``
            whichever that has.
        folder: where relations are looked for and built. They hold ids: they stay on this machine.
        file: folder of relations that have been built; a run refuses those of other readings or gaze.
        related_share: how many of the training samples that have a related one left in the epoch are followed by one, 0
            to 1. More pairs per step, and batches that are not a random sample of the films any more. Related are those
            that the task learns from: in a shuffled control, the shuffled ones. Under several processes neighbours go
            to different processes of one step and count as well: positives are looked for among the films of all. MoCo
            looks for them in its queue only, which holds earlier batches: pairs within a step give it nothing before
            the next epoch, so this helps it little, and costs it pairs if the queue is shorter than an epoch. Batches
            without gaze (``positives: none`` or ``label``) are drawn at random whatever it says, so those refuse it;
            the arm without gaze that has the same batches is ``positives: gaze, drop_prob: 1``.
        jobs: threads that build; 0: one per core.
    """

    def __init__(
        self,
        measure: GazeSimilarity | None = None,
        tau: float | None = None,
        positive_rate: float | None = None,
        folder: str = "./data/relations",
        file: str | None = None,
        related_share: float = 0.0,
        jobs: int = 0,
    ) -> None:
        super().__init__()
        if not 0 <= related_share <= 1:
            raise ConfigurationError(f"related_share={related_share} must lie between 0 and 1")
        if jobs < 0:
            raise ConfigurationError(f"jobs={jobs} must not be negative; 0 is one thread per core")
        if file is None:
            measure = measure or MapCC()
            positive_rate = _DEFAULT_RATE if tau is None and positive_rate is None else positive_rate
        self.measure = measure
        self.tau = tau
        self.positive_rate = positive_rate
        self.folder = Path(folder)
        self.file = None if file is None else Path(file)
        self.related_share = related_share
        self.jobs = jobs

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Give the task its relations before it is trained.

        Every process takes part, and an error on one is raised on all.

        Raises:
            ConfigurationError: the data have no gaze, may be mirrored where the measure does not allow it, or the
                relations cannot be used; or readings are to be drawn together and the task needs no relations.
        """
        if stage != "fit":
            return
        if not isinstance(pl_module, LearnsFromRelations) or not pl_module.needs_relations:
            if self.related_share > 0:
                raise ConfigurationError(
                    f"relations.related_share={self.related_share:g} would be ignored: this task takes no pairs from "
                    "gaze. Set relations.related_share=0; for an arm without gaze in the same batches, "
                    "model.init_args.positives=gaze and model.init_args.drop_prob=1."
                )
            return
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, OffersTrainingGaze):
            raise ConfigurationError(
                f"The task learns from relations between readings, but {_name(data)} does not show its gaze: use one "
                "of the project's data modules, or train without relations (model.init_args.positives: none)"
            )
        gaze = _on_all(lambda: self._gaze(data))
        with patience() as group:  # building takes hours on all of MIMIC-CXR
            _on_all(lambda: self.open(gaze) if trainer.local_rank == 0 else None, group)
        artefact = _on_all(lambda: self.open(gaze, progress=False))
        if self.measure is None:  # the file tells it
            invariant = bool(getattr(getattr(similarity, artefact.measure, None), "mirror_invariant", False))
            _on_all(lambda: _refuse_flips(data, invariant, artefact.measure))
        learnt = pl_module.set_relations(artefact.relations)
        if self.related_share > 0:
            data.draw_related_together(learnt, self.related_share)
        _on_all(lambda: _show(trainer, gaze, artefact, pl_module.relations_used_as))

    def open(self, gaze: TrainingGaze, progress: bool = True) -> Artefact:
        """Find or build the relations of these readings, see `gaze_lightning.relations.open_artefact`.

        Args:
            gaze: the training readings.
            progress: whether building shows how far it has come.
        """
        return open_artefact(
            gaze, self.measure, self.tau, self.positive_rate, self.folder, self.file, self.jobs, progress
        )

    def _gaze(self, data: OffersTrainingGaze) -> TrainingGaze:
        if self.measure is not None:
            _refuse_flips(data, self.measure.mirror_invariant, type(self.measure).__name__)
        gaze = data.training_gaze()
        if not gaze.sample_ids:
            raise ConfigurationError(
                "None of the training readings has gaze, so none are related: train without "
                f"(model.init_args.positives: none), or {gaze_remedy(data)}"
            )
        return gaze


def gaze_remedy(data: object) -> str:
    """What a user can do about data without gaze, in the data module's own words (``gaze_remedy``)."""
    return str(getattr(data, "gaze_remedy", "choose data with gaze"))


def _on_all(work: Callable[[], _Found], group: ProcessGroup | None = None) -> _Found:
    """Do something on every process; if it fails on one, it fails on all, and none waits for another in vain."""
    found: _Found | None = None
    failed: Exception | None = None
    try:
        found = work()
    except Exception as error:  # whatever it is, the others wait for an answer
        failed = error
    reasons = all_ranks([None if failed is None else (isinstance(failed, ConfigurationError), _text(failed))], group)
    if failed is not None:
        raise failed
    for reason in reasons:
        if reason is not None:
            configuration, text = reason
            raise (ConfigurationError if configuration else RuntimeError)(f"on another process: {text}")
    return found  # type: ignore[return-value]


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, ConfigurationError) else f"{type(error).__name__}: {error}"


def _refuse_flips(data: object, mirror_invariant: bool, measure: str) -> None:
    """Mirroring one film alone changes where its gaze lies, and with it what relations by place say.

    Raises:
        ConfigurationError: the data module mirrors films and the measure depends on sides.
    """
    if isinstance(data, OffersTwoViews) and data.flips and not mirror_invariant:
        raise ConfigurationError(
            f"{_name(data)} mirrors films at random, but {measure} compares where on the film gaze lies: a mirrored "
            "film is not like the readings that it is related to. Leave flips out of the augmentation, or use a "
            "measure that does not depend on sides (Moments)."
        )


def _name(data: object) -> str:
    return "training with loaders alone" if data is None else type(data).__name__


def _show(trainer: Trainer, gaze: TrainingGaze, artefact: Artefact, used_as: str) -> None:
    """Print the statistics on the first process; it also writes ``relations.json`` and ``relations.png``."""
    if not trainer.is_global_zero:
        return
    print_statistics(artefact.statistics, artefact.description)
    note = data_note(trainer)
    if used_as != "gaze":
        remark = f"Used {used_as}: these numbers are of the gaze, not of the pairs that train."
        print(remark)  # noqa: T201
        note = " · ".join(words for words in (note, remark) if words)
    if trainer.fast_dev_run:  # type: ignore[attr-defined]
        return
    run = Path(trainer.default_root_dir)
    names = list(getattr(getattr(trainer, "datamodule", None), "class_names", []))
    content = {
        "measure": artefact.measure,
        "parameters": artefact.parameters,
        "tau": artefact.asked.tau,
        "positive_rate": artefact.asked.positive_rate,
        "threshold": artefact.relations.threshold,
        "gaze": artefact.gaze,
        "digest": artefact.relations.digest,
        "artefact": str(artefact.folder),
        "used_as": used_as,
        "class_names": names,
        "statistics": artefact.statistics.to_json(),
    }
    with replacing(run / "relations.json") as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")
    figure = draw_relation_page(gaze, artefact.relations, note=note, class_names=names)
    save_png(figure, run / "relations.png")
