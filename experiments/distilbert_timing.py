"""How much faster is half the depth? Sanh et al. 2019, Table 3: a pass over STS-B's dev, one pair after the other, on a CPU.

    python launch.py --config=experiments/distilbert_timing.py:paper --config.data.folder=…/glue
    python launch.py --config=experiments/distilbert_timing.py:small --config.data.folder=…/glue      (minutes)

Hypothesis: DistilBERT has 40 % fewer parameters than BERT and needs 60 % of its time (published: 66 M and 110 M, 410 s and 668 s on
a Xeon E5-2690 v3). Refuted if the claim is. The time of a pass does not depend on what the weights are: each model is trained for
one step on the task, from random weights, and then timed on one core (`run.time_pass`), whatever device it trained on. Pairs are
padded to the next bucket (data.buckets); the paper does not say how it pads. Making the batches is not counted. Another vocabulary
or tokenizer changes the lengths: `--config.data.tokenizer=vocab.txt` gives the paper's. Seeds are repetitions, each of which wants
the machine for itself. `paper` has the published shapes, `small` a third of their width and depth, `tiny` times the embedded task.
"""

import dataclasses

from configs import bert, distilbert, finetune
from experiments.papers import SEEDS, load_recipe, reshape
from research.data.tasks import TASKS
from research.experiment import Experiment, Run
from research.study.columns import COLUMNS, PASS, Column
from research.study.seeds import repeat
from research.study.study import Claim, Row, Setting, Study, Table
from research.surgery import Surgery

# Size -> task, layers, width and heads of BERT.
SIZES = {'tiny': ('packages', 2, 32, 2), 'small': ('stsb', 4, 256, 4), 'paper': ('stsb', 12, 768, 12)}
# Title, millions of parameters, seconds, layers.
PUBLISHED = {'bert': ('BERT', 110.0, 668.0, 12), 'distilbert': ('DistilBERT', 66.0, 410.0, 6)}


def get_study(size: str = 'small') -> Study:
    """Both models, each timed on the same task."""
    task, layers, width, heads = SIZES[size]
    runs = {key: make_run(key, size) for key in PUBLISHED}
    time = dataclasses.replace(PASS, published='seconds on a Xeon E5-2690 v3')
    columns = (
        dataclasses.replace(COLUMNS['parameters'], role='task'),
        time,
        Column('Share of the time (%)', 'task', time.key, 'percent', note='of the time that BERT takes', relative='BERT'),
        dataclasses.replace(COLUMNS['latency'], role='task'),
    )
    rows = tuple(
        Row(title, {'task': (key,)}, {columns[0].title: millions, time.title: seconds}, setting=Setting(deep, 768))
        for key, (title, millions, seconds, deep) in PUBLISHED.items()
    )
    title = f'A pass over {task} ({TASKS[task].reported}), {layers} and {layers // 2} layers of width {width}'
    study = Study(
        name='distilbert_timing',
        runs=runs,
        table=Table(title, rows, columns, source='Sanh et al. 2019, Table 3'),
        claims=(
            Claim(
                'half the depth is faster: a pass of {a} takes less than one of {b}', ('distilbert', time.key), ('bert', time.key)
            ),
        ),
    )
    return repeat(study, SEEDS[size])


def make_run(key: str, size: str) -> Experiment:
    """One step of the model `key` from random weights on the task of a size, and the pass."""
    task, layers, width, heads = SIZES[size]
    model = load_recipe({'bert': bert, 'distilbert': distilbert}[key], 'base').model
    x = load_recipe(finetune, task)
    return dataclasses.replace(
        x,
        name=key,
        start='',
        surgery=Surgery(),
        model=reshape(model, layers // 2 if key == 'distilbert' else layers, width, heads),
        data=dataclasses.replace(x.data, tokenizer='wordpiece', select='last'),
        run=Run(steps=1, batch=x.run.batch, log_every=1, time_pass=True),
    )
