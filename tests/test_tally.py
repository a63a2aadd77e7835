"""Figures: many values put in order at once are as those put in one by one."""

import random

from sukkal.tally import KNOWN_PROJECTS, OTHER, SECONDS, ByProject, Figures, Histogram


def test_values_added_together_are_as_if_added_one_by_one() -> None:
    drawn = random.Random(7)
    values = [
        drawn.choice([*SECONDS, drawn.expovariate(100), drawn.uniform(0, 20), 0.0]) for _ in range(5000)
    ]
    one_by_one, together = Histogram(), Histogram()
    for value in values:
        one_by_one.add(value)
    for start in range(0, len(values), 700):
        together.add_all(values[start : start + 700])
    assert together.counts == one_by_one.counts
    assert together.count == len(values)
    assert abs(together.total - one_by_one.total) < 1e-6


def test_buckets_are_cumulative_and_hold_their_bound() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.add(value)
    assert histogram.cumulative() == [("1", 2), ("2", 3), ("+Inf", 4)]


def test_answers_are_settled_once() -> None:
    requests = Figures().of("http", "messages.post")
    requests.took[201] += [0.002, 0.003]
    assert requests.settle()[201].count == 2
    assert requests.settle()[201].count == 2
    requests.took[201].append(0.5)
    assert requests.settle()[201].count == 3


def test_first_class_that_fits_a_project_counts_its_messages() -> None:
    counted = ByProject([("gold", "acme-*"), ("free", "trial-?"), ("gold", "big"), ("free", "*-2")])
    for project in ("acme-1", "acme-2", "big", "trial-1", "x-2", "bigger", ""):
        counted[project].posted += 1
    assert {name: counts.posted for name, counts in counted.classes.items()} == {
        "gold": 3,
        "free": 2,
        OTHER: 2,
    }


def test_projects_may_be_many_and_classes_are_few() -> None:
    counted = ByProject([("even", "*[02468]")])
    for number in range(KNOWN_PROJECTS * 2):
        counted[f"project-{number}"].deleted += 1
    assert len(counted) <= KNOWN_PROJECTS
    assert {name: counts.deleted for name, counts in counted.classes.items()} == {
        "even": KNOWN_PROJECTS,
        OTHER: KNOWN_PROJECTS,
    }
