"""One reading as arrays."""

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from typing import Literal, NotRequired, Self, TypedDict

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset

from data_modules.augment import Augmenter
from data_modules.compact_texts import CompactTexts
from data_modules.film_fits import FilmFits
from data_modules.films.cache import FilmCache
from data_modules.gaze_column import GazeColumn
from data_modules.gaze_sources import GazeWeight, reaches
from data_modules.geometry import FilmFit
from data_modules.readings import Region
from gaze_lightning.gaze import Fixations

MaskKind = Literal["lesion", "anatomy"]


class Sample(TypedDict):
    """What the dataset yields; the collate function makes a `Batch` of them. Coordinates in network pixels."""

    image: npt.NDArray[np.uint8]
    """``[1, H, W]``."""
    sample_id: str
    subject: str
    film: np.int64
    """Number of the film in the cache."""
    fixations: npt.NDArray[np.float32]
    """``[n, 5]``: x, y, weight, sigma_x, sigma_y."""
    film_box: npt.NDArray[np.float32]
    """``[4]``: x0, y0, x1, y1."""
    second_view: NotRequired[npt.NDArray[np.uint8]]
    """``[1, H, W]``: the film augmented once more, independently; coordinates belong to ``image``."""
    label: NotRequired[np.int64 | npt.NDArray[np.float32]]
    warp: NotRequired[npt.NDArray[np.float32]]
    """``[2, 3]``: the affine of the augmentation, canonical -> augmented, where ``image`` has not moved by it yet."""
    visible: NotRequired[npt.NDArray[np.float32]]
    """``[n, 4]``; present in all samples of a data set that has visible rectangles."""
    lesion_mask: NotRequired[npt.NDArray[np.bool_]]
    """``[K, H, W]``."""
    anatomy_mask: NotRequired[npt.NDArray[np.bool_]]
    """``[K, H, W]``."""
    others: NotRequired[dict[int, npt.NDArray[np.float32]]]
    """Number of each other reading of the film and its fixations, like ``fixations``; present where the data set knows
    of any."""
    others_visible: NotRequired[dict[int, npt.NDArray[np.float32]]]
    """Like ``visible``; present where both ``visible`` and ``others`` are."""


class GazeDataset(Dataset[Sample]):
    """Readings of one part of the split: films from the cache, gaze as points.

    Nothing is random unless an augmenter is given; then samples are asked for as ``(epoch, index)``.

    Points whose centre lies outside the image are kept as long as their Gaussian reaches into it (3 sigma), so that a
    map rendered from moved points is the moved map; readings without any point or weight have no gaze.

    What is kept per reading is kept in arrays, so that loading processes share it with the one that started them.

    Masks are rasterised when a sample is first asked for and kept, one bit per pixel, for the epochs after it.

    Args:
        sample_ids: one opaque string per reading.
        subjects: patient of each reading.
        films: index of each reading's film in the cache.
        cache: the films.
        gaze: fixations of each reading, film pixels; empty where there are none.
        weight: what a fixation counts for.
        image_size: ``(H, W)`` of the cache's films, pixels.
        labels: int64 ``[n]``, float32 ``[n, K]``, or None.
        regions: outlines of each reading, or None to make no masks.
        n_classes: number of classes, for the masks.
        mask_kinds: kinds of masks that samples carry (empty ones where a sample has none of the kind).
        with_visible: whether samples carry visible rectangles.
        augmenter: for training.
        others: for the readings that have any: numbers of the other readings of the same film (any numbers that tell
            readings apart) and their gaze, film pixels; None: samples carry none.
        fits: where the films lie on the canvas; None: whole.
        two_views: whether samples carry a second view, augmented independently of the first.

    Raises:
        ValueError: if there are an augmenter and regions or others: they would not move with the film.
    """

    def __init__(
        self,
        sample_ids: Sequence[str],
        subjects: Sequence[str],
        films: npt.NDArray[np.int64],
        cache: FilmCache,
        gaze: Sequence[Fixations],
        weight: GazeWeight,
        image_size: tuple[int, int],
        labels: npt.NDArray[np.int64] | npt.NDArray[np.float32] | None = None,
        regions: Sequence[Sequence[Region]] | None = None,
        n_classes: int = 0,
        mask_kinds: Collection[MaskKind] = ("lesion", "anatomy"),
        with_visible: bool = False,
        augmenter: Augmenter | None = None,
        others: Mapping[int, Mapping[int, Fixations]] | None = None,
        fits: FilmFits | None = None,
        two_views: bool = False,
    ) -> None:
        if augmenter is not None and not (regions is None and others is None):
            raise ValueError(
                "masks do not follow augmented films, nor does the gaze of others: give an augmenter, or regions and "
                "others, not both"
            )
        self.sample_ids = CompactTexts(sample_ids)
        self.subjects = CompactTexts(subjects)
        self.films = films
        self.cache = cache
        self.gaze = GazeColumn(gaze)
        self.weight: GazeWeight = weight
        self.image_size = image_size
        self.labels = labels
        self.regions = regions
        self.n_classes = n_classes
        self.mask_kinds = mask_kinds
        self._masks: dict[tuple[int, MaskKind], dict[int, npt.NDArray[np.uint8]]] = {}
        self.with_visible = with_visible
        self.augmenter = augmenter
        self.two_views = two_views
        self.others = others
        self.fits = fits or FilmFits(cache.sizes, image_size)

    def __len__(self) -> int:
        return len(self.sample_ids)

    def __getitem__(self, key: int | tuple[int, int]) -> Sample:
        """Return one sample; ``key`` is its index, or (epoch, index)."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        film = int(self.films[index])
        image = self.cache[film]
        fit, box = self.fits.fit(film), self.fits.box(film)
        gaze = self.gaze[index].affine(fit.scale, fit.scale, fit.offset_x, fit.offset_y)
        warp = second = None
        if self.augmenter is not None:
            if self.two_views:
                second = self.augmenter(image, gaze, box, epoch, index, view=1).image
            augmented = self.augmenter(image, gaze, box, epoch, index)
            image, gaze, box = augmented.image, augmented.fixations, augmented.film_box
            warp = None if self.augmenter.moves_pixels else augmented.matrix
        gaze = gaze.select(reaches(gaze, self.image_size))
        sample = Sample(
            image=image[None],
            sample_id=self.sample_ids[index],
            subject=self.subjects[index],
            film=self.films[index],
            fixations=self._points(gaze),
            film_box=np.array(box, dtype=np.float32),
        )
        if second is not None:
            sample["second_view"] = second[None]
        if warp is not None:
            sample["warp"] = warp.astype(np.float32)
        if self.labels is not None:
            sample["label"] = self.labels[index]
        if self.with_visible:
            sample["visible"] = self._visible(gaze)
        if self.regions is not None:
            if "lesion" in self.mask_kinds:
                sample["lesion_mask"] = self._mask(index, self.regions[index], "lesion", fit)
            if "anatomy" in self.mask_kinds:
                sample["anatomy_mask"] = self._mask(index, self.regions[index], "anatomy", fit)
        if self.others is not None:
            others = {
                number: own.affine(fit.scale, fit.scale, fit.offset_x, fit.offset_y)
                for number, own in self.others.get(index, {}).items()
            }
            others = {number: own.select(reaches(own, self.image_size)) for number, own in others.items()}
            sample["others"] = {number: self._points(own) for number, own in others.items()}
            if self.with_visible:
                sample["others_visible"] = {number: self._visible(own) for number, own in others.items()}
        return sample

    def show(self, two_views: bool, moves_pixels: bool) -> None:
        """Decide whether samples carry a second view, and whether films are moved here; for those with an augmenter."""
        self.two_views = two_views
        if self.augmenter is not None:
            self.augmenter.moves_pixels = moves_pixels

    def plain(self) -> Self:
        """The same readings as the cache has them: not augmented, without masks and the gaze of others."""
        plain = copy(self)
        plain.augmenter = plain.regions = plain.others = None
        return plain

    def _points(self, gaze: Fixations) -> npt.NDArray[np.float32]:
        columns = [gaze.x, gaze.y, gaze.weights(self.weight), gaze.sigma_x, gaze.sigma_y]
        return np.stack(columns, axis=1).astype(np.float32)

    def _visible(self, gaze: Fixations) -> npt.NDArray[np.float32]:
        whole = [0.0, 0.0, self.image_size[1], self.image_size[0]]
        shown = np.tile(whole, (len(gaze), 1)) if gaze.visible is None else gaze.visible
        return shown.astype(np.float32)

    def _mask(self, index: int, regions: Sequence[Region], kind: MaskKind, fit: FilmFit) -> npt.NDArray[np.bool_]:
        """The mask of one kind, bool ``[K, H, W]``: the regions of a class united."""
        masks = np.zeros((self.n_classes, *self.image_size), dtype=bool)
        if (index, kind) in self._masks:
            for class_index, bits in self._masks[index, kind].items():
                masks[class_index] = np.unpackbits(bits, count=masks[0].size).reshape(self.image_size)
            return masks
        for region in regions:
            if region.kind == kind:
                masks[region.class_index] |= region.mask(fit.scale, fit.offset_x, fit.offset_y, self.image_size)
        self._masks[index, kind] = {k: np.packbits(mask) for k, mask in enumerate(masks) if mask.any()}
        return masks
