"""What a training says when it ends."""

from __future__ import annotations

from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm

from experiments._tracking import agent_files
from lipsrl._digits import rounded_up
from lipsrl.certificates import Certificate, certify
from lipsrl.tracking import RunFolder, WandbWriter
from lipsrl.tracking.jobs import log_trained


def certified(folder: RunFolder, model: BaseAlgorithm) -> Certificate:
    """The certificate of what was trained, in its run folder."""
    certificate = certify(model)
    certificate.save(folder.certificate_file)
    return certificate


def logged(folder: RunFolder, writer: WandbWriter, config: dict[str, Any], certificate: Certificate) -> None:
    """The certificate and the agent in the W&B run of the training."""
    name = f"{config['task']}-{config['agent']}-{config['seed']}"
    log_trained(writer.run, name, certificate, agent_files(folder))


def interrupted(steps: int, timesteps: int, kept: int | None) -> str:
    """Of a training that did not come to its end.

    Args:
        kept: steps of the newest checkpoint; ``None``: there is none.
    """
    goes_on = "there is no checkpoint to go on from: the same command begins anew, and replaces it"
    if kept is not None:
        goes_on = f"the same command goes on after {kept} steps"
    return f"Interrupted after {steps} of {timesteps} steps; the model so far is kept, and {goes_on}."


def summary(steps: int, seconds: float, certificate: Certificate | None) -> str:
    """Steps, speed and what is certified; ``None``: the policy has no Lipschitz constant."""
    said = (
        "no certificate: the policy has no Lipschitz constant" if certificate is None else proven(certificate)
    )
    return f"{steps} steps in {seconds:.0f} s ({steps / max(seconds, 1e-9):.0f}/s), {said}"


def proven(certificate: Certificate) -> str:
    """What is certified, in words."""
    network = certificate.network
    return (
        f"certified ≤ {rounded_up(certificate.upper_bound, 4)} per raw unit "
        f"(network {rounded_up(network.upper_bound, 4)}, tightness {network.tightness:.0%})"
    )
