"""Splits: who trains, who validates, who is tested. Every patient is in one part only, but for two papers' rules."""

from data_modules.splits.announcement import announce_split
from data_modules.splits.assign import assign_split
from data_modules.splits.checks import assert_disjoint, assert_filled, leak_summary, split_summary
from data_modules.splits.held_out import hold_out
from data_modules.splits.kinds import BY_IMAGE, REPRODUCTION, SPLITS, Parts, SplitKind
from data_modules.splits.label_fraction import checked_fraction, keep_fraction
from data_modules.splits.split_file import write_split

__all__ = [
    "BY_IMAGE",
    "REPRODUCTION",
    "SPLITS",
    "Parts",
    "SplitKind",
    "announce_split",
    "assert_disjoint",
    "assert_filled",
    "assign_split",
    "checked_fraction",
    "hold_out",
    "keep_fraction",
    "leak_summary",
    "split_summary",
    "write_split",
]
