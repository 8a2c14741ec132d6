"""Stick figures and their motions, for the embedded demo dataset.

A motion is a function from the phase, in cycles, to strokes. The unit is the height of a standing figure, its feet are
at (0, 0), and y points up.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SKIN, SHIRT, TROUSERS, PROP = range(4)  # the rows of a palette
LIMB = 0.27  # length of half an arm or leg

Array = NDArray[Any]
Point = tuple[float, float]


class Stroke(NamedTuple):
    """A thick line through points (N, 2); a single point is a disc."""

    points: Array
    width: float
    paint: int


Drawing = list[Stroke]
Motion = Callable[[float], Drawing]  # phase in cycles → drawing


def _stroke(points: Any, width: float = 0.09, paint: int = PROP) -> Stroke:
    return Stroke(np.asarray(points, np.float64).reshape(-1, 2), width, paint)


def _wave(phase: float) -> float:
    """0 at whole phases, 1 halfway between them."""
    return float(0.5 - 0.5 * np.cos(2 * np.pi * phase))


def _limb(start: Point, end: Point, bend: int) -> list[Point]:
    """Start, joint and end of two bones of length `LIMB`; the joint bends towards the side of `bend`."""
    along = np.subtract(end, start)
    distance = float(np.hypot(*along)) or 1e-6
    out = bend * np.sqrt(max(LIMB**2 - (distance / 2) ** 2, 0.0)) / distance
    x, y = np.add(start, along / 2) + out * np.array([along[1], -along[0]])
    return [start, (float(x), float(y)), end]


def _figure(hands: tuple[Point, Point], feet: tuple[Point, Point], hips: Point = (0, 0.5), lean: float = 0) -> Drawing:
    """A figure with the given hands, feet and hips; `lean` moves the shoulders sideways."""
    shoulder = hips[0] + lean, hips[1] + 0.3
    return [
        *(_stroke(_limb(hips, foot, bend), 0.1, TROUSERS) for foot, bend in zip(feet, (1, -1), strict=True)),
        _stroke([hips, shoulder], 0.17, SHIRT),
        *(_stroke(_limb(shoulder, hand, bend), 0.08, SHIRT) for hand, bend in zip(hands, (-1, 1), strict=True)),
        _stroke([shoulder[0] + lean / 3, shoulder[1] + 0.13], 0.19, SKIN),
    ]


def _turned(drawing: Drawing, centre: Point, turns: float) -> Drawing:
    sin, cos = np.sin(2 * np.pi * turns), np.cos(2 * np.pi * turns)
    matrix = np.array([[cos, sin], [-sin, cos]])
    return [s._replace(points=(s.points - centre) @ matrix + centre) for s in drawing]


def _moved(drawing: Drawing, x: float = 0, y: float = 0) -> Drawing:
    return [s._replace(points=np.add(s.points, (x, y))) for s in drawing]


def _ring(centre: Point, radii: Point) -> Stroke:
    angle = np.linspace(0, 2 * np.pi, 25)
    return _stroke(np.add(centre, np.stack([radii[0] * np.cos(angle), radii[1] * np.sin(angle)], 1)), 0.05)


def _rope(left: Point, right: Point, swing: float) -> Stroke:
    along = np.linspace(-1, 1, 15)
    x = np.linspace(left[0], right[0], 15) + 0.12 * along * (1 - along**2)
    return _stroke(np.stack([x, (left[1] + right[1]) / 2 + swing * (1 - along**4)], 1), 0.04)


def _barbell(x: float, y: float) -> Drawing:
    discs = (_stroke([[x + side, y - 0.08], [x + side, y + 0.08]], 0.1) for side in (-0.48, 0.48))
    return [_stroke([[x - 0.48, y], [x + 0.48, y]], 0.04), *discs]


def _dribble(p: float) -> Drawing:
    ball = 0.1 + 0.42 * abs(np.cos(np.pi * p))
    bob = 0.05 * _wave(p)
    hands = (-0.25, 0.55 - bob), (0.3, max(ball + 0.1, 0.4))
    return [*_figure(hands, ((-0.15, 0), (0.12, 0)), (0, 0.44 - bob), 0.06), _stroke([0.33, ball], 0.22)]


def _cartwheel(p: float) -> Drawing:
    star = _figure(((-0.32, 1.0), (0.32, 1.0)), ((-0.25, 0), (0.25, 0)))
    return _moved(_turned(star, (0, 0.5), -p), x=0.6 * _wave(p / 4) - 0.3)


def _clean_and_jerk(p: float) -> Drawing:
    bar = 0.12 + 1.0 * _wave(p)
    hips = 0.28 + 0.22 * min(_wave(p) * 2, 1.0)
    return [*_figure(((-0.22, bar), (0.22, bar)), ((-0.16, 0), (0.16, 0)), (0, hips)), *_barbell(0, bar)]


def _hula_hoop(p: float) -> Drawing:
    x, y = 0.09 * np.cos(2 * np.pi * p), 0.04 * np.sin(2 * np.pi * p)
    body = _figure(((-0.3, 0.98), (0.3, 0.98)), ((-0.1, 0), (0.1, 0)), (x, 0.5), -1.4 * x)
    return [*body, *_turned([_ring((-1.2 * x, 0.5 + y), (0.4, 0.11))], (0, 0.5), 0.6 * y)]


def _jumping_jack(p: float) -> Drawing:
    open_, hop = _wave(p), 0.14 * _wave(2 * p)
    angle = np.radians(15 + 145 * open_)
    x, y, foot = 0.5 * np.sin(angle), 0.8 + hop - 0.5 * np.cos(angle), 0.06 + 0.24 * open_
    return _figure(((-x, y), (x, y)), ((-foot, hop), (foot, hop)), (0, 0.5 + hop))


def _jump_rope(p: float) -> Drawing:
    hop = 0.18 * (1 - _wave(p)) ** 2
    hands = (-0.36, 0.55 + hop), (0.36, 0.55 + hop)
    rope = _rope(*hands, swing=-0.6 * np.cos(2 * np.pi * p))
    return [*_figure(hands, ((-0.06, hop), (0.06, hop)), (0, 0.5 + hop)), rope]


def _stand(p: float) -> Drawing:
    sway = 0.1 * np.sin(2 * np.pi * p)
    return _figure(((2 * sway - 0.2, 0.38), (2 * sway + 0.2, 0.38)), ((-0.1, 0), (0.1, 0)), (sway, 0.5), sway)


def _walk(p: float) -> Drawing:
    x, lift = 0.26 * np.sin(2 * np.pi * p), 0.1 * np.cos(2 * np.pi * p)
    feet = (x, max(lift, 0.0)), (-x, max(-lift, 0.0))
    return _figure(((-x, 0.38), (x, 0.38)), feet, (0, 0.48 + 0.02 * _wave(2 * p)), 0.03)


def _stroll(p: float) -> Drawing:
    return _moved(_walk(p), x=1.6 * _wave(p / 8) - 0.8)


def _beckon(p: float) -> Drawing:
    return _figure(((-0.2, 0.38), (0.25 + 0.28 * np.sin(2 * np.pi * p), 0.95)), ((-0.1, 0), (0.1, 0)))


def _stretch(p: float) -> Drawing:
    side, lean = 0.6 * np.sin(np.pi * p), 0.2 * np.sin(np.pi * p)
    return _figure(((side - 0.12, 1.05), (side + 0.12, 1.05)), ((-0.15, 0), (0.15, 0)), lean=lean)


def _bow(p: float) -> Drawing:
    down = _wave(p / 2)
    hands = (0.1 + 0.35 * down, 0.38 - 0.25 * down), (0.2 + 0.3 * down, 0.38 - 0.2 * down)
    return _figure(hands, ((-0.1, 0), (0.1, 0)), (-0.12 * down, 0.5 - 0.12 * down), 0.3 * down)


def _kick(p: float) -> Drawing:
    swing = 0.45 * np.sin(2 * np.pi * p)
    feet = (-0.06, 0), (max(swing, -0.25), 0.35 * abs(swing))
    return _figure(((-0.3 * swing - 0.1, 0.45), (0.1 - swing, 0.5)), feet, (0, 0.5), -0.12 * _wave(p + 0.25))


def _flap(p: float) -> Drawing:
    spread, knees = 0.5 - 0.12 * _wave(p), 0.1 * _wave(p)
    y = 0.45 + 0.5 * _wave(p) - knees
    return _figure(((-spread, y), (spread, y)), ((-0.1, 0), (0.1, 0)), (0, 0.5 - knees))


def _hold_ball(p: float) -> Drawing:
    x, y = 0.25 * np.sin(2 * np.pi * p), 0.62 + 0.1 * np.cos(2 * np.pi * p)
    return [*_figure(((x - 0.1, y), (x + 0.1, y)), ((-0.12, 0), (0.12, 0))), _stroke([x, y], 0.22)]


def _hold_hoop(p: float) -> Drawing:
    return [*_walk(p), _ring((0.32, 0.38), (0.12 + 0.06 * np.sin(2 * np.pi * p), 0.36))]


def _carry_rope(p: float) -> Drawing:
    sway = 0.18 * np.sin(2 * np.pi * p)
    hands = (sway - 0.2, 0.45), (sway + 0.2, 0.45)
    return [*_figure(hands, ((-0.1, 0), (0.1, 0)), (sway / 2, 0.5)), _rope(*hands, swing=-0.25 + sway)]


def _rest_at_barbell(p: float) -> Drawing:
    return [*_stand(p), *_barbell(0.1, 0.12)]


def _nobody(_: float) -> Drawing:
    return []


def _car(p: float) -> Drawing:
    body = _stroke([[-0.5, 0.2], [0.5, 0.2]], 0.24), _stroke([[-0.2, 0.36], [0.25, 0.36]], 0.2)
    spokes = (_turned([_stroke([[x - 0.08, 0.09], [x + 0.08, 0.09]], 0.1, SKIN)], (x, 0.09), p) for x in (-0.32, 0.32))
    return [*body, *(wheel for pair in spokes for wheel in pair)]


def _bird(p: float) -> Drawing:
    tip = 0.75 + 0.22 * np.cos(2 * np.pi * p)
    return _moved([_stroke([[-0.3, tip], [0, 0.75], [0.3, tip]], 0.07)], y=0.2)


def _balloon(p: float) -> Drawing:
    return _moved(
        [_stroke([[0, 0.4], [0, 0.8]], 0.03, TROUSERS), _stroke([0, 0.9], 0.3)], y=0.1 * np.sin(2 * np.pi * p)
    )


def _tumbleweed(p: float) -> Drawing:
    ball = [_ring((0, 0.16), radii) for radii in ((0.15, 0.15), (0.15, 0.05), (0.05, 0.15))]
    return _turned(ball, (0, 0.16), -p)


# class → motion and cycles per second
ACTIONS: dict[str, tuple[Motion, float]] = {
    "BasketballDribble": (_dribble, 1.7),
    "Cartwheel": (_cartwheel, 0.9),
    "CleanAndJerk": (_clean_and_jerk, 0.7),
    "HulaHoop": (_hula_hoop, 1.6),
    "JumpRope": (_jump_rope, 1.7),
    "JumpingJack": (_jumping_jack, 1.2),
}
FIDGETS: tuple[tuple[Motion, float], ...] = (
    (_stand, 1.3), (_walk, 1.7), (_stroll, 1.7), (_beckon, 1.8), (_stretch, 1.3), (_bow, 1.4), (_kick, 1.2),
    (_flap, 1.4), (_hold_ball, 1.6), (_hold_hoop, 1.7), (_carry_rope, 1.6), (_rest_at_barbell, 1.3), (_nobody, 1.0),
)  # fmt: skip
PASSERS: tuple[tuple[Motion, float], ...] = (
    (_car, 1.5), (_bird, 2.2), (_balloon, 0.8), (_tumbleweed, 1.2), (_walk, 1.5),
)  # fmt: skip
