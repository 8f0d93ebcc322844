"""Candidate answers as a token tree (trie): tokens that several begin with are scored once, leaves are not fed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zip_ray.errors import InputError
from zip_ray.protocol.arrays import Bool, Int64

Answers = tuple[tuple[int, ...], ...]
"""Token ids of each candidate, its end token included."""


@dataclass(frozen=True)
class AnswerTree:
    """Nodes are beginnings of answers. Node 0 is the empty one, which is not fed; fed are the others but leaves."""

    fed: Int64
    """Token ids of the fed nodes, in the order of their rows: shape (rows,)."""
    depths: Int64
    """How many tokens each fed node has, from 1: shape (rows,)."""
    sees: Bool
    """Whether a fed node sees another: its beginnings and itself, shape (rows, rows)."""
    edge_rows: Int64
    """Of each edge: the row whose hidden state predicts it, 0 = the last token of the question, r + 1 = fed row r."""
    edge_tokens: Int64
    """Of each edge: the token that it adds."""
    paths: Bool
    """Whether an edge is on the way to a candidate: shape (candidates, edges)."""


def answer_tree(answers: Answers) -> AnswerTree:
    """The tree of some answers, none of which is a beginning of another.

    Raises:
        InputError: two are the same tokens.
    """
    if len(set(answers)) < len(answers):
        raise InputError("task.name: two candidate answers are the same tokens to the model: rename one")
    inner = sorted(
        {answer[:n] for answer in answers for n in range(1, len(answer))}, key=lambda node: (len(node), node)
    )
    rows = {node: row for row, node in enumerate(inner)}
    edges = sorted({answer[:n] for answer in answers for n in range(1, len(answer) + 1)})
    places = {edge: place for place, edge in enumerate(edges)}
    paths = np.zeros((len(answers), len(edges)), dtype=bool)
    for candidate, answer in enumerate(answers):
        paths[candidate, [places[answer[:n]] for n in range(1, len(answer) + 1)]] = True
    sees = np.zeros((len(inner), len(inner)), dtype=bool)
    for node, row in rows.items():
        sees[row, [rows[node[:n]] for n in range(1, len(node) + 1)]] = True
    return AnswerTree(
        fed=_ints([node[-1] for node in inner]),
        depths=_ints([len(node) for node in inner]),
        sees=sees,
        edge_rows=_ints([rows.get(edge[:-1], -1) + 1 for edge in edges]),
        edge_tokens=_ints([edge[-1] for edge in edges]),
        paths=paths,
    )


def _ints(values: Sequence[int]) -> Int64:
    return np.array(values, dtype=np.int64)
