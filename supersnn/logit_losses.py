"""Losses of the student's logits [T, B, K]: with labels, with a teacher's logits, and with their own mean over time.

With z[t] the logits of a step, z̄ their mean over time, y the teacher's logits and p_τ(x) = softmax(x / τ):

    label, mean       CE(z̄)
    label, per_step   1/T Σ_t CE(z[t])                                    Deng et al. 2022 (TET)
      with mse        (1 - λ) · the above + λ · mean of (z[t] - φ)²       their equation with λ = 1e-3, φ = 1
    logit, mean       τ² · KL(p_τ(y) ‖ p_τ(z̄))                            Hinton et al. 2015
    logit, per_step   1/T Σ_t τ² · KL(p_τ(y) ‖ p_τ(z[t]))                 each step has the same target
      reverse         the same with KL(p_τ(z) ‖ p_τ(y)), both: the mean of forward and reverse
    ensemble          1/T Σ_t τ² · KL(p_τ(z̄) ‖ p_τ(z[t])), z̄ constant     each step learns from all of them

All are means over the batch. Deng, Li, Zhang & Gu 2022, "Temporal efficient training of spiking neural network via
gradient re-weighting"; Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network". Distillation per
time step and self-distillation from the mean over time are those of the temporal-decoupling line of work on spiking
networks; its published weights are `logit: {time: per_step, temperature: 3, weight: 0.2}` and `label: {ensemble:
0.5}`. Losses that weight forward against reverse divergence by the teacher's probabilities are not reproduced by
`both`.
"""

from torch import Tensor
from torch.nn import functional

from supersnn.config import LabelLossConfig, LogitLossConfig


def label_loss(config: LabelLossConfig, logits: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of logits [T, B, K] with labels int64 [B], or with target distributions float [B, K]."""
    if config.kind == "mean":
        loss = functional.cross_entropy(logits.mean(0), labels, label_smoothing=config.smoothing)
    else:
        repeated = labels.repeat(len(logits), *(1 for _ in labels.shape[1:]))
        loss = functional.cross_entropy(logits.flatten(0, 1), repeated, label_smoothing=config.smoothing)
    if config.mse == 0:
        return loss
    return (1 - config.mse) * loss + config.mse * (logits - config.mse_target).square().mean()


def logit_loss(config: LogitLossConfig, logits: Tensor, teacher: Tensor) -> Tensor:
    """Return the divergence of logits [T, B, K] and a teacher's [B, K]."""
    steps = logits.mean(0, keepdim=True) if config.time == "mean" else logits
    student = functional.log_softmax(steps.flatten(0, 1) / config.temperature, dim=1)
    target = functional.log_softmax(teacher / config.temperature, dim=1).repeat(len(steps), 1)
    found = []
    if config.direction in ("forward", "both"):
        found.append(_divergence(student, target))
    if config.direction in ("reverse", "both"):
        found.append(_divergence(target, student))
    return config.temperature**2 * (found[0] if len(found) == 1 else (found[0] + found[1]) / 2)


def ensemble_loss(config: LabelLossConfig, logits: Tensor) -> Tensor:
    """Return the mean divergence of each step of logits [T, B, K] from their mean over time, which is constant."""
    tau = config.ensemble_temperature
    target = functional.log_softmax(logits.detach().mean(0) / tau, dim=1).repeat(len(logits), 1)
    return tau**2 * _divergence(functional.log_softmax(logits.flatten(0, 1) / tau, dim=1), target)


def _divergence(of: Tensor, target: Tensor) -> Tensor:
    """Return KL(target ‖ of) of log-probabilities [N, K], mean over N."""
    return functional.kl_div(of, target, reduction="batchmean", log_target=True)
