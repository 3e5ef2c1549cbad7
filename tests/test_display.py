"""What one sees of a sweep, on a terminal and in a log."""

import io
from dataclasses import replace

import pytest
from records import keep
from rich.console import Console

from latentmill import heartbeat
from latentmill.cluster.display import ROWS, SECONDS_BETWEEN_LINES, Display, duration, outcome_of
from latentmill.cluster.rounds import optuna_rounds
from latentmill.config import Params
from latentmill.trials.plan import Plan
from latentmill.trials.store import TrialStore

LADDER = {"naive_bayes": {}, "vae": {"latent": [2, 3, 4]}}


class Clock:
    """A clock that stands until it is moved."""

    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """Makes a display over a plan of four trials: (display, plan, clock, what was written)."""

    monkeypatch.setattr(heartbeat, "SILENCE", 1e6)  # its clock is the real one

    def shown(terminal, ladder=LADDER):
        sections = {
            "data": {"source": "digits"},
            "trial": {},
            "priors": {"normal": {}},
            "train": {},
            "evaluation": {},
            "export": {},
            "ladder": ladder,
        }
        plan = Plan(Params.model_validate(sections), "a" * 64, TrialStore(tmp_path), optuna_rounds)
        clock, written = Clock(), io.StringIO()
        console = Console(file=written, force_terminal=terminal, width=100, highlight=False, soft_wrap=True)
        return Display(plan, console, clock), plan, clock, written

    return shown


def end(display, plan, planned, **record):
    keep(plan.store, planned.fingerprint, **{"criterion": 30.0, "history": [], "best_epoch": 0} | record)
    display.ended(planned, plan.ended(planned.fingerprint))


def test_a_log_has_one_line_every_few_seconds_and_every_failure(shown):
    display, plan, clock, written = shown(terminal=False)
    with display:
        trials = [plan.pop_pack()[0] for _ in range(4)]
        for planned in trials:
            display.started(planned)
        clock.now += 3
        end(display, plan, trials[0])
        end(display, plan, trials[1])
        end(display, plan, trials[2], status="diverged", error="the loss must be finite, but got nan at step 7 after 5")
        display.progressed(trials[3], {"epoch": 4, "epochs": 9, "val_loss": 12.5})
        clock.now += SECONDS_BETWEEN_LINES
        display.progressed(trials[3], {"epoch": 5, "epochs": 9, "val_loss": 11.5})
    assert written.getvalue().splitlines() == [
        "[1/4] 3 running, 3.0 s left; vae latent=4: 30 on val, 2.0 s",
        "[3/4] 1 running, 1 failed, 0.0 s left; vae latent=3: 30 on val, 2.0 s",
        "vae latent=2: diverged: the loss must be finite, but got nan at step 7 after 5",
        "[3/4] 1 running, 1 failed; naive_bayes: epoch 5 of 9, validation loss 11.5",
    ]


COSTS = {"vae": 2.0, "slow": 6.0, "short": 2.0}  # seconds of an epoch


@pytest.mark.parametrize(
    ("ladder", "stops_at"),
    [
        ({"vae": {"latent": list(range(2, 12))}}, 1.0),
        ({"vae": {"latent": list(range(2, 12))}}, 0.4),
        (
            {
                "naive_bayes": {},
                "vae": {"latent": [2, 3]},
                "slow": {"model": "vae", "latent": [2, 3], "network": "conv"},
                "short": {"model": "autoencoder", "latent": list(range(2, 8)), "epochs": 40},
            },
            0.7,
        ),
    ],
    ids=["all epochs", "early stopping", "of all kinds"],
)
def test_the_time_left_falls_to_what_is_left(shown, ladder, stops_at):
    """Two workers; each trial reports after every epoch and ends after a share of those it may have."""
    display, plan, clock, _ = shown(terminal=False, ladder=ladder)
    reported, running = [], {}
    while plan.missing:
        while len(running) < 2 and plan.waiting:
            (planned,) = plan.pop_pack()
            display.started(planned)
            running[planned.fingerprint] = planned, clock.now
        clock.now += 1
        for planned, since in list(running.values()):
            allowed = (planned.trial.training or {"epochs": 1})["epochs"]
            epoch = int((clock.now - since) / COSTS.get(planned.entry, 1.0))
            if epoch >= stops_at * allowed:
                del running[planned.fingerprint]
                end(display, plan, planned)
            elif epoch:
                display.progressed(planned, {"epoch": epoch, "epochs": allowed, "val_loss": 1.0})
        reported.append((clock.now, display.seconds_left()))
    known = [(clock.now - now, left) for now, left in reported if left is not None]
    lefts = [left for _, left in known]
    assert len(known) > 0.9 * len(reported)
    assert lefts == sorted(lefts, reverse=True), "it never rises"
    assert len(set(lefts)) > 0.25 * len(lefts), "it falls"
    near_the_end = [(actual, left) for actual, left in known if 20 < actual < 180]
    assert all(0.4 * actual < left < 2.5 * actual for actual, left in near_the_end)


def test_a_terminal_has_a_live_table_and_a_line_for_each_end(shown):
    display, plan, clock, written = shown(terminal=True)
    with display:
        first, second = plan.pop_pack()[0], plan.pop_pack()[0]
        display.started(first)
        display.started(second)
        display.progressed(first, {"epoch": 12, "epochs": 100, "val_loss": 104.2})
        clock.now += 65
        page = io.StringIO()
        Console(file=page, width=80).print(display.table())
        end(display, plan, first, criterion=99.5)
    rows = [line.split() for line in page.getvalue().splitlines() if line.strip()]
    assert ["vae", "latent=4", "12/100", "104.2", "1:05"] in rows
    assert ["vae", "latent=3", "1:05"] in rows
    assert "vae latent=4: 99.5 on val, 2.0 s" in written.getvalue()


def test_of_a_large_pack_some_are_shown_and_the_others_counted(shown):
    display, plan, _, _ = shown(terminal=True)
    planned = plan.pop_pack()[0]
    for row in range(ROWS + 3):
        display.started(replace(planned, fingerprint=str(row), label=f"trial {row}"))
    page = io.StringIO()
    Console(file=page, width=80).print(display.table())
    rows = [line.strip() for line in page.getvalue().splitlines()]
    assert sum(row.startswith("trial ") for row in rows) == ROWS
    assert "and 3 more" in rows


def test_the_best_of_earlier_sweeps_is_shown(shown):
    _, plan, _, _ = shown(terminal=True)
    planned = plan.pop_pack()[0]
    keep(plan.store, planned.fingerprint, criterion=77.0)
    display, *_ = shown(terminal=True)
    page = io.StringIO()
    Console(file=page, width=80).print(display.table())
    assert ["vae", "77", "vae", "latent=4"] in [line.split() for line in page.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("record", "reported"),
    [
        ({"status": "finished", "criterion": 95.123, "seconds": 61.0}, "95.12 on val, 1:01"),
        ({"status": "pruned", "epoch": 9, "criterion": 120.0}, "pruned after epoch 9, 120 on val"),
        ({"status": "failed", "error": "InputError: x"}, "failed: InputError: x"),
        ({"status": "out of memory", "error": "MemoryError: "}, "out of memory: MemoryError: "),
    ],
)
def test_how_a_trial_ended(record, reported):
    assert outcome_of(record) == reported


@pytest.mark.parametrize(
    ("seconds", "reported"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (42.4, "42 s"), (61, "1:01"), (7387, "2:03:07")]
)
def test_durations(seconds, reported):
    assert duration(seconds) == reported
