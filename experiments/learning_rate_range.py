"""Which learning rate? One run whose rate rises (Smith 2017, §3.3), beside short runs of one rate each.

    python launch.py --config=experiments/learning_rate_range.py:small --workdir=runs/range
    python -m experiments.learning_rate_range runs/range       (says the suggested rate)

Hypothesis: the run whose rate rises linearly from 0 finds in one run what a sweep finds in many: half the rate at which its loss is
lowest is within a factor of √10, one step of the sweep, of the best constant rate. Refuted if the second command says so. The claims
under the table hold if the sweep brackets the best rate; if one does not, move RATES.
"""

SIZES = ('tiny', 'small', 'paper')
STEPS = {'tiny': 20, 'small': 300, 'paper': 2000}
RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
HIGHEST = RATES[-1]
MIDDLE = RATES[2]
SMOOTHED = 5  # logged losses whose median is one point of the curve
