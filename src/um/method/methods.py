"""The methods that this pipeline trains, by the name `train.method`.

A method is one file of this folder, as cola.py, and a line in METHODS and in `Train.method` of params.py. It has:

- a network derived from `um.method.model.Network`. Its output has `action_score` (B, C), `cas` (B, T, C), `magnitude`
  (B, T: evidence of foreground), `bounds` (its range, for `foreground: minmax`) and `fused` (the curves that are
  thresholded), all of which localisation uses, and whatever its loss needs;
- a loss: (output, labels (B, C), settings) → a NamedTuple of scalars, first `total`, then `classification`.

Sampling, training, checkpoints, localisation, evaluation and tables work with any of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from um.method import cola, loss
from um.method.cola import CoLA, cola_loss
from um.method.loss import um_loss
from um.method.model import UM, Network
from um.params import Train


class Method(NamedTuple):
    """A network and its loss, with the names of the loss's scalars: columns of history.csv."""

    network: type[Network]
    loss: Callable[[Any, Tensor, Train], Any]
    scalars: tuple[str, ...]


METHODS = {
    "um": Method(UM, um_loss, loss.Losses._fields),
    "cola": Method(CoLA, cola_loss, cola.Losses._fields),
}
