"""How alike the gaze on two films is, and which films are related by it."""

from gaze_lightning.gaze.similarity.dhash import DHash
from gaze_lightning.gaze.similarity.gaze_similarity import GazeSimilarity
from gaze_lightning.gaze.similarity.map_cc import MapCC
from gaze_lightning.gaze.similarity.moments import Moments
from gaze_lightning.gaze.similarity.multimatch import MultiMatch, multimatch_scores
from gaze_lightning.gaze.similarity.prepared_gaze import PreparedGaze
from gaze_lightning.gaze.similarity.relation_matrix import RelationMatrix

__all__ = [
    "DHash",
    "GazeSimilarity",
    "MapCC",
    "Moments",
    "MultiMatch",
    "PreparedGaze",
    "RelationMatrix",
    "multimatch_scores",
]
