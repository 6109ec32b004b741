"""The scheme of names, said to a W&B run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lipsrl.tracking.names import NAMES, STEP


def define_metrics(run: Any, disturbances: Iterable[str] = (), *, step: str = STEP) -> None:
    """Give every curve of the scheme its x-axis and what the summary keeps of it.

    ``WandbWriter`` and `log_evaluation` do it for their runs; call it for a run of your own that logs these names.
    What is of another scheme stays as it is.

    Args:
        run: a W&B run.
        disturbances: whose curves over strength it will log; parts of keys (`lipsrl.tracking.names.key_parts`).
        step: the key that counts environment steps. ``"global_step"`` for a run that was started with
            ``sync_tensorboard=True``.
    """
    faced = list(disturbances)
    for name in NAMES:
        if name.kind != "curve" or (name.key == STEP and step != STEP):
            continue
        options: dict[str, Any] = {}
        if name.step:
            options["step_metric"] = step if name.step == STEP else name.step
        if name.summary != "last":  # the last value is kept anyway, under the key itself
            options["summary"] = name.summary
        if "<disturbance>" in name.key:
            for part in faced:
                own = {key: value.replace("<disturbance>", part) for key, value in options.items()}
                run.define_metric(name.of(disturbance=part), **own)
        else:
            # W&B knows no other pattern than a star at the end
            run.define_metric(name.key.replace("<i>", "*"), **options)
