"""From files on disk to a `ReadingTable`: no torch, no Lightning.

>>> films = FilmIndex(locate_mimic_cxr_jpg(root))  # doctest: +SKIP
>>> table = read_egd_cxr(locate_egd_cxr(root), films)  # doctest: +SKIP
"""

from data_modules.sources.egd_cxr import EGD_CLASSES, EgdSigma, read_egd_cxr
from data_modules.sources.folder import read_folder
from data_modules.sources.locate import PointSource, locate_egd_cxr, locate_mimic_cxr_jpg, locate_reflacx
from data_modules.sources.manifest import read_manifest
from data_modules.sources.manifest_fixations import FixationColumns
from data_modules.sources.mimic_cxr import FilmIndex, Missing
from data_modules.sources.reflacx import read_reflacx
from data_modules.sources.reflacx_labels import REFLACX_LABELS

__all__ = [
    "EGD_CLASSES",
    "REFLACX_LABELS",
    "EgdSigma",
    "FilmIndex",
    "FixationColumns",
    "Missing",
    "PointSource",
    "locate_egd_cxr",
    "locate_mimic_cxr_jpg",
    "locate_reflacx",
    "read_egd_cxr",
    "read_folder",
    "read_manifest",
    "read_reflacx",
]
