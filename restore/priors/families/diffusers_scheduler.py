"""The scheduler_config.json of diffusers as a schedule and a prediction in words. Used by `diffusers.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from restore.priors.families.meaning import EDM, Meaning

_PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
_SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
_PRESERVING = ("DDPM", "DDIM", "PNDM", "DPMSolver", "UniPC", "DEIS", "LMS", "Euler", "Heun", "KDPM")


def meaning_of(config: Mapping[str, Any]) -> Meaning:
    """What a scheduler says of a variance-preserving chain or of EDM's preconditioning; nothing of betas in a list."""
    name = str(config.get("_class_name", ""))
    if name.startswith("EDM"):
        low, high = float(config.get("sigma_min", 0.002)), float(config.get("sigma_max", 80.0))
        said = _PREDICTIONS.get(str(config.get("prediction_type", "epsilon")), "")
        data = float(config.get("sigma_data", 0.5))
        return Meaning(schedule=f"{EDM}{data:g}", prediction=said, sigma_range=(low, high))
    schedule = _SCHEDULES.get(str(config.get("beta_schedule", "linear")), "")
    if not name.startswith(_PRESERVING) or not schedule or config.get("trained_betas") is not None:
        return Meaning()
    steps = int(config.get("num_train_timesteps", 1000))
    ends = f":{config.get('beta_start', 1e-4)}:{config.get('beta_end', 0.02)}"
    text = f"{schedule}{'' if schedule == 'cosine' else ends}:{steps}"
    if config.get("rescale_betas_zero_snr") is True:
        text += ":zsnr"
    prediction = _PREDICTIONS.get(str(config.get("prediction_type", "epsilon")), "")
    return Meaning(schedule=text, prediction=prediction)
