"""Layouts: how transitions become tokens; one per file, shared by objectives and agents.

A layout says which tokens come before anything is known (``prompt``), which are read just before an action
(``before``) and which once its outcome is known (``after``); a sequence is prompt, before, after, before, after, ...
and the action of a step is read off the last token that precedes it.
"""
