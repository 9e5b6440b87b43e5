"""Progress without a terminal: a few plain lines on stderr, and none of a job that is part of another."""

from icrl.core.progress import Progress


def lines(capsys, label: str) -> list[str]:
    with Progress(label, 40, "steps") as bar:
        for _ in range(40):
            bar.advance(1, "loss 1.0")
    assert bar.done == 40 and bar.rate > 0
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_ten_lines_over_a_job_with_rate_time_left_and_note(capsys):
    shown = lines(capsys, "training")
    assert len(shown) == 10
    assert shown[0].startswith("training: 4/40 steps, ") and shown[-1].startswith("training: 40/40 steps, ")
    assert all("/s, " in line and line.endswith("s left  loss 1.0") for line in shown)


def test_a_part_of_another_job_only_counts(capsys):
    assert lines(capsys, "") == []
