#!/usr/bin/env bash
# ppi-python 0.2.3 takes sampling weights (`w=`), scales them to a mean of 1, and then measures the spread of weight times label.
# So the weights themselves count as noise: labels that are all yes, for which every weighted mean is 1, get an interval of 0.75 to
# 1.25, and that of a weighted share is longer than the linearised one that survey statistics and statsmodels use. Whoever labels a
# stratified sample, with rare answers drawn more often, gets intervals that are too long, and may think that the judge helps little.
# With λ = 1 and a judge that agrees everywhere the same labels get an interval of no length.
#
# Expected output: "all yes, weights 1 and 9: 0.752 to 1.248; λ 1: 1.000 to 1.000", "share 0.81: 0.559 to 1.061 and, linearised,
# 0.652 to 0.968", then "as found".
# dpg-bench linearises, with strata and items as clusters, and never ends outside 0..1 (docs/audit.md; the values of ppi-python
# without weights and of statsmodels with clusters are held by src/statistics/prediction_powered.rs).
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q ppi-python==0.2.3 numpy==2.4.6 scipy==1.17.1 statsmodels==0.15.0
cat >"$work/finding.py" <<'PYTHON'
import numpy as np
import statsmodels.api as sm
from ppi_py import ppi_mean_ci

weights = np.r_[np.full(20, 1.0), np.full(20, 9.0)]
judge, judge_of_all = np.ones(40), np.ones(400)


def interval(labels, lam):
    low, high = ppi_mean_ci(labels, judge, judge_of_all, alpha=0.05, lam=lam, w=weights)
    return float(low[0]), float(high[0])


text = "{:.3f} to {:.3f}".format
alone, both = interval(np.ones(40), 0), interval(np.ones(40), 1)
print(f"all yes, weights 1 and 9: {text(*alone)}; λ 1: {text(*both)}")
labels = np.r_[np.ones(18), 0, 0, np.ones(16), np.zeros(4)]
theirs = interval(labels, 0)
fit = sm.WLS(labels, np.ones(40), weights=weights).fit(cov_type="HC0")
survey = fit.conf_int(0.05)[0]
print(f"share {fit.params[0]:.2f}: {text(*theirs)} and, linearised, {text(*survey)}")
assert alone[1] > 1.2 and theirs[1] - theirs[0] > 1.5 * (survey[1] - survey[0]), "this has changed"
print("as found")
PYTHON
"$work/venv/bin/python" "$work/finding.py"
