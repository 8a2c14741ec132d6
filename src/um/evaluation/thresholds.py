"""Ranges of thresholds, as params.yaml writes them."""

from functools import cache

MOST_THRESHOLDS = 1000


def threshold_range(text: str) -> list[float]:
    """Expand `start:stop:step` (stop included) to its values in [0, 1]: `0.1:0.7:0.1` → 0.1, 0.2, …, 0.7."""
    return list(_expanded(text))


@cache
def _expanded(text: str) -> tuple[float, ...]:
    try:
        start, stop, step = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"expected start:stop:step, got {text[:80]!r}") from None
    if not (0 <= start <= stop <= 1 and 1e-6 <= step < float("inf")):
        raise ValueError(f"expected 0 <= start <= stop <= 1 and step >= 0.000001, got {text[:80]!r}")
    count = int((stop - start) / step + 1e-6) + 1
    if count > MOST_THRESHOLDS:
        raise ValueError(f"expected at most {MOST_THRESHOLDS:,} thresholds, got {count:,} from {text[:80]!r}")
    return tuple(round(start + i * step, 10) for i in range(count))
