from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from lipsrl._validation import lookup
from lipsrl.metrics._arrays import as_rows

_SCALINGS = {"normalized": "normalized", "raw": "raw"}


def spectral_smoothness(actions: ArrayLike, *, scaling: Literal["normalized", "raw"] = "normalized") -> float:
    """Frequency-weighted amplitude of the action spectrum, Sm of CAPS; lower is smoother.

    ``Sm = 2/(n·f_s) · Σ_k M_k f_k``, averaged over channels. Two scalings circulate, and their values differ
    by two orders of magnitude, so name the one you report:

    - ``"normalized"`` (default): that of the CAPS authors' evaluation code. With ``m = T // 2`` bins
      ``k = 0 … m−1`` of the FFT Y, amplitudes ``M_k = 2|Y_k|/T`` (a sine of amplitude A that fits the window
      has M = A) and frequencies ``f_k = k/(m−1)`` from 0 to 1 at the last bin below Nyquist:
      ``Sm = 1/m · Σ_k M_k f_k``. Usual values 1e-3 … 1e-2. A sine of amplitude A in bin k gives A·k/(m(m−1)).
    - ``"raw"``: ``M_k = |Y_k|`` and ``f_k = k/T`` cycles per step for ``k = 0 … T // 2``, n = T and f_s = 1:
      ``Sm = 2/T · Σ_k |Y_k| f_k``. Usual values about 1. The same sine gives A·k/T.

    A constant action has Sm = 0 in both. Gaussian white noise of standard deviation s has the expectation
    s/2·√(π/T) in the first scaling, so compare episodes of one length; in the second, with odd T,
    s·√(π/T)·(T² − 1)/(8T).

    Args:
        actions: ``(T, channels)`` or ``(T,)``, in the environment's action units.
        scaling: ``"normalized"`` or ``"raw"``.

    Returns:
        Action units; ``nan`` if T < 4, where the spectrum has no frequency to weigh.

    Raises:
        ValueError: if ``actions`` has another shape or an entry that is not finite, or for an unknown
            scaling.

    Source:
        Mysore et al., Regularizing Action Policies for Smooth Control with Reinforcement Learning (ICRA
        2021).

    Example:
        >>> import numpy as np
        >>> from lipsrl.metrics import spectral_smoothness
        >>> sine = np.sin(2 * np.pi * 10 * np.arange(100) / 100)
        >>> round(spectral_smoothness(sine), 6), round(spectral_smoothness(sine, scaling="raw"), 6)
        (0.004082, 0.1)
    """
    rows = as_rows("actions", actions)
    lookup("scaling", scaling, _SCALINGS)
    n = len(rows)
    if n < 4:
        return float("nan")
    amplitudes = np.abs(np.fft.rfft(rows, axis=0))
    if scaling == "raw":
        return float((2 / n * (np.fft.rfftfreq(n) @ amplitudes)).mean())
    bins = n // 2
    frequencies = np.linspace(0.0, 1.0, bins)
    return float((frequencies @ (2 / n * amplitudes[:bins]) / bins).mean())
