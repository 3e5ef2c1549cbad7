"""Small made-up inputs of the report: what the other stages write, laid out in a folder."""

import json
import shutil

import numpy as np
import prepared_sets
from PIL import Image

from latentmill.config import Params, checked
from latentmill.data import dataset
from latentmill.report.captions import KINDS, OTHER, SAMPLES
from latentmill.report.inputs import Places

HOSTILE = "<img src=x onerror=\"hacked=alert('1')\">&amp;</script><script>hacked=alert(2)</script>{{ 7*7 }}"
BINARY, DENSITY = "pixels binarised at random", "8-bit pixels dequantised"
LIKELIHOOD = {"nats": -513.32, "standard_error": 5.39, "bits_per_dimension": 7.05, "images": 50}
SHOWN = 20  # samples in a gallery


def verdict(status, evidence="precision 0.9 ± 0.1, fails from 0.5"):
    return {"status": status, "evidence": evidence, "samples": 10_000}


def samples(rule_1="pass", rule_2="inconclusive", precision=0.9, copies=0.004, ratio=1.0):
    """The numbers of the samples under one prior."""
    return {
        "rule_1": verdict(rule_1),
        "rule_2": verdict(rule_2),
        "metrics": {
            "pixels": {
                "precision": {"value": precision, "standard_error": 0.012},
                "Fréchet distance": {"value": 3.0, "standard_error": 0.2},
            },
            "timm:odd": {"never heard of": {"value": 1.0, "standard_error": 0.0}},
        },
        "near_copies": {"share": copies, "low": copies * 0.9, "high": copies * 1.1, "held_out": 0.004},
        "nearest": {"median": 5.0, "test_median": 5.0, "ratio_to_test": ratio},
    }


def drawn(c2st_accuracy=0.55, **others):
    """The same, of a model with codes."""
    prior = {"mmd": 0.01, "largest_ks": 0.1, "dimensions_off": 2}
    return samples(**others) | {
        "validation": {"space": "pixels", "frechet_distance": 4 * c2st_accuracy},
        "prior": prior,
        "hole": {"c2st_accuracy": c2st_accuracy, "baseline_c2st_accuracy": 0.52},
    }


PLAIN = {
    "likelihood": LIKELIHOOD | {"kind": "exact", "sample_space": BINARY},
    "samples": {"own": samples("fail", "pass", precision=0.0, ratio=1.9)},
    "exported_prior": "own",
}
BOUND = {
    "kind": "bound (1000 samples)",
    "sample_space": BINARY,
    "curve": {"1": -500.0, "1000": -513.32},
    "elbo": {"nats": -500.0, "reconstruction": -526.5, "kl": 26.5, "gap": 13.32},
}
CODED = {
    "likelihood": LIKELIHOOD | BOUND,
    "reconstruction": {
        "mse": 0.0103,
        "mse_median": 0.009,
        "mse_p95": 0.02,
        "mse_worst": 0.05,
        "psnr_db": 20.1,
        "ssim": 0.74,
    },
    "latent": {
        "dimensions": 20,
        "active_units": 19,
        "path_longest_step": 1.8,
        "kl": 26.5,
        "collapse": "partial",
        "collapsed_dimensions": 1,
    },
    "factors": {"mig": 0.125, "disentanglement": 0.5, "completeness": 0.4, "informativeness": 0.75},
    "reconstructions": {"rule_1": verdict("pass", "C2ST accuracy 0.5 ± 0.1, passes below 0.7") | {"samples": 750}},
    "samples": {"normal": drawn(0.97, rule_1="fail"), "mixture": drawn(rule_2="pass")},
    "exported_prior": "mixture",
}
TRIALS = """entry,prior,fingerprint,model,seed,status,winner,criterion,seconds,error,config.latent
plain,,aa,naive_bayes,0,finished,yes,1.5,0.04,,
coded,,bb,vae,0,finished,yes,2.5,10,,2
coded,,cc,vae,0,failed,,,,"DivergedError: loss is
<nan>",3
coded,normal,dd,normal,0,finished,yes,3.5,0,,
coded,mixture,ee,mixture,0,finished,yes,2.5,1,,
coded,flow,ff,flow,0,failed,,,,too many steps,
"""
CURVES = "entry,trial,epoch,train_loss,val_loss\n" + "".join(f"coded,bb,{n},1,{90 / n}\n" for n in range(1, 6))


def control_values(*means):
    names = ("real images", "blurred", "one class dropped")
    return {name: {"mean": mean, "deviation": 0.01} for name, mean in zip(names, means, strict=True)}


CALIBRATION = {
    "subset": 500,
    "repeats": 12,
    "spaces": {"pixels": {"digest": "ab" * 32, "features": 64}},
    "rules": {
        "1": {
            "controls": [
                {"name": "real images", "positive": True},
                {"name": "blurred", "positive": False},
                {"name": "one class dropped", "positive": False},
            ],
            "metrics": [
                {
                    "metric": "Vendi score",
                    "space": "pixels",
                    "better": "higher",
                    "detects": {},
                    "values": control_values(30, 30, 29.9),
                },
                {
                    "metric": "precision",
                    "space": "pixels",
                    "better": "higher",
                    "detects": {"blurred": 0.45, "one class dropped": 0.7},
                    "values": control_values(0.8, 0.1, 0.6),
                },
                {
                    "metric": "Fréchet distance",
                    "space": "pixels",
                    "better": "lower",
                    "detects": {"blurred": 5.0},
                    "values": control_values(2, 8, 2.1),
                },
            ],
        }
    },
}


def write(root, digits, entries, source="small <digits>"):
    """Everything for entries: name -> (model, metrics). Returns what `read_inputs` takes."""
    names = ("data", "trials.csv", "curves.csv", "models", "evaluation", "exports")
    places = Places(*(root / name for name in names))
    prepared_sets.write(places.data, dict.fromkeys(dataset.SPLITS, digits[:20]), description=source)
    places.trials.write_text(TRIALS)
    places.curves.write_text(CURVES)
    for name, (model, metrics) in entries.items():
        _write_entry(places, name, model, metrics, digits)
    put(places.evaluation / "metrics.json", {name: metrics for name, (_, metrics) in entries.items()})
    put(places.evaluation / "calibration.json", CALIBRATION)
    put(places.exports / "champion/card.json", {"entry": list(entries)[-1]})
    distances = {"distances": [[row + 0.25, *range(row + 1, row + 5)] for row in range(SHOWN)]}
    galleries = {name: dict.fromkeys(metrics["samples"], distances) for name, (_, metrics) in entries.items()}
    put(places.evaluation / "galleries.json", galleries)
    ladder = {name: {"model": model, "latent": [2, 3]} for name, (model, _) in entries.items()}
    sections = {"data": {"source": "digits"}, "trial": {}, "priors": {}, "train": {}, "evaluation": {}, "export": {}}
    params = checked(Params, sections | {"ladder": {"any": {}}}, "params")
    return params.model_copy(update={"ladder": ladder}), places  # unchecked: the page escapes names that params refuse


INTAKE = {
    "files": 3775,
    "dropped": 12,
    "reasons": {"truncated": 10, "no image": 2},
    "formats": {"PNG": 3700, "GIF": 63},
    "modes": {"RGBA": 3000, "LA": 763},
    "sizes": {"64x64": 3763},
    "conversions": {"alpha on white": 3763},
}


def describe(places, **facts):
    path = places.data / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


REFUSED = "its samples are too close to training images and fail Rule 2"


def refuse(places, name, reason=REFUSED, evidence="", status="refused", advice=""):
    """Leave a refusal in place of an export."""
    shutil.rmtree(places.exports / name, ignore_errors=True)
    why = {"reason": reason, "evidence": evidence, "advice": advice}
    put(places.exports / name / "refused.json", {"entry": name, "status": status, "rules": {}, **why})


def fail(places, name, reason="loss is nan", **others):
    """Leave of an entry what a sweep leaves where none of its trials ended with a model."""
    for folder in (places.models, places.evaluation / "pictures", places.exports):
        shutil.rmtree(folder / name, ignore_errors=True)
    put(places.models / name / "failed.json", {"entry": name, "reason": reason, "trials": []})
    metrics = json.loads((places.evaluation / "metrics.json").read_text())
    metrics.pop(name)
    put(places.evaluation / "metrics.json", metrics)
    refuse(places, name, "no trial ended with a model", reason, status="failed")


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def _write_entry(places, name, model, metrics, digits):
    trial = {"model": model, "config": {"latent": 2}, "training": None, "seed": 0, "features": None}
    record = {"trial": trial, "fingerprint": "aa", "criterion": -1.5, "best_epoch": 0, "history": [], "seconds": 0.04}
    put(places.models / name / "trial.json", record)
    measured = {"bytes": 5, "mean_difference": 3.21, "largest_difference": 40.0, "tolerance": 2.0, "published": False}
    files = {"g.onnx": {"bytes": 9, "largest_difference_from_torch": 0.0}}
    put(places.exports / name / "card.json", {"files": files, "formats": {"int8": measured}})
    folder = places.evaluation / "pictures" / name
    folder.mkdir(parents=True)
    for kind in _kinds(metrics):
        Image.new("L", (930, 234), 90).save(folder / f"{kind}.png")
    for prior in metrics["samples"]:
        tiles = digits[: SHOWN * 6, 0].reshape(SHOWN, 6, 8, 8).transpose(0, 2, 1, 3).reshape(SHOWN * 8, 48)
        Image.fromarray(np.ascontiguousarray(tiles)).save(folder / f"gallery_{prior}.png")


def _kinds(metrics):
    """The pictures that the evaluation would draw, and one that the report has never heard of."""
    sampled = [kind for kind, about in KINDS.items() if about.group == SAMPLES and kind not in ("gallery", "codes")]
    others = [kind for kind, about in KINDS.items() if about.group not in (SAMPLES, OTHER)]
    coded = "reconstruction" in metrics
    found = [f"{kind}_{prior}" for prior in metrics["samples"] for kind in [*sampled, *(["codes"] if coded else [])]]
    return [*found, *(others if coded else []), "new_kind"]
