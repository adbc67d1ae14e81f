"""Benchmarks with a correctness check inside: a fast wrong answer fails."""
