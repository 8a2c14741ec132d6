"""What a log says of long work."""

import itertools

import pytest

from um import progress


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (3599, "1 h 0 min"), (12_030, "3 h 20 min")]
)
def test_durations_are_rounded(seconds, text):
    assert progress.duration(seconds) == text


def test_a_log_tells_the_time_left_early_and_then_now_and_then(capsys, monkeypatch):
    with progress.progress("work", 200) as step:
        for number in range(1, 201):
            monkeypatch.setattr(progress.time, "monotonic", lambda number=number: 2.0 * number)
            step("x", number)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "work: 6/200 x (2 s each, 6 min left)"  # after the first five
    assert lines[1] == "work: 10/200 x (2 s each, 6 min left)"
    assert lines[-2:] == ["work: 190/200 x (2 s each, 20 s left)", "work: 200/200 x"]
    assert len(lines) == 21


def test_a_log_is_never_silent_for_long(capsys, monkeypatch):
    clock = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock)
    with progress.progress("work", 10_000) as step:
        for number in range(1, 1001):
            clock += 0.25 if number <= 200 else 3.0
            step("x", number)
    lines = capsys.readouterr().err.splitlines()
    counts = [int(line.split()[1].split("/")[0]) for line in lines]
    assert max(b - a for a, b in itertools.pairwise(counts) if a >= 200) <= 10  # 30 s
    assert lines[1] == "work: 126/10000 x (4/s, 41 min left)"


def test_work_without_a_known_end_has_no_time_left(capsys):
    with progress.progress("work") as step:
        for _ in range(3):
            step("x")
    assert capsys.readouterr().err.splitlines() == ["work: 1 x", "work: 2 x", "work: 3 x"]
