"""Repeats a campaign on a clock: waits, starts a pytest session a round, keeps the account of the series.

It measures nothing itself, and is there while others measure: the standard library alone, asleep nearly always.
"""
