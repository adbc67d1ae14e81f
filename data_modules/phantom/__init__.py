"""The phantom: drawn chest films and simulated reading gaze in the on-disk formats of the real data sets."""

from data_modules.phantom.knobs import PHANTOM_VERSION, PhantomKnobs
from data_modules.phantom.write import is_complete, write_phantom

__all__ = ["PHANTOM_VERSION", "PhantomKnobs", "is_complete", "write_phantom"]
