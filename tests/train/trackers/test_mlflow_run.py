"""The parameters of MLflow, which needs no package; tests/train/trackers/test_packages.py has the rest."""

from __future__ import annotations

from train.trackers.mlflow_run import flat


def test_parameters_have_dotted_names() -> None:
    document = {
        "name": "small",
        "ema": None,
        "optimizer": {"betas": [0.9, 0.999], "clip": 1.0},
        "data": [{"name": "a"}, {"name": "b"}],
        "execution": {"trackers": []},
    }
    assert dict(flat(document)) == {
        "name": "small",
        "ema": "None",
        "optimizer.betas.0": "0.9",
        "optimizer.betas.1": "0.999",
        "optimizer.clip": "1.0",
        "data.0.name": "a",
        "data.1.name": "b",
        "execution.trackers": "[]",
    }
