"""What does a loss about pairs of sentences give? Lan et al. 2020, Table 5.

    python launch.py --config=experiments/albert_sentence_loss.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (the SST-2 of `small`; without it TFDS is asked, over the network)

Hypothesis: sentence order (SOP) is harder than next sentence (NSP) and helps tasks more. Refuted where NSP's own accuracy is not
the higher one, or where the order of the published averages is not found again. Each model is asked about the pairs that it
was trained on; the paper's crossed accuracies (a model of one loss asked about the pairs of the other) are not measured.
"""

import dataclasses

from configs import albert, finetune
from research.experiment import from_wire
from research.objectives.losses import Losses, Plain
from research.study import papers
from research.study.graph import COLUMNS, Claim, Column, Study
from research.study.papers import ALBERT_COLUMNS, ALBERT_TASKS, Variant, scores

SIZES = papers.SIZES
PUBLISHED = {  # loss -> its title, the accuracies of MLM and of its own pairs, and the row of the tasks
    'none': ('none', 54.9, {}, '88.6/81.5 78.1/75.3 81.5 89.9 61.7 79.0'),
    'nsp': ('NSP', 54.5, {'NSP accuracy (%)': 90.5}, '88.4/81.5 77.2/74.6 81.6 91.1 62.3 79.2'),
    'sop': ('SOP', 54.0, {'SOP accuracy (%)': 86.5}, '89.3/82.3 80.0/77.1 82.0 90.3 64.0 80.1'),
}


def get_study(size: str = 'small') -> Study:
    """The same model without a loss of pairs, with NSP and with SOP."""
    base = papers.scaled(from_wire(albert.get_config('base')), size)
    losses = {
        'none': Losses(mlm=Plain(1.0)),
        'nsp': Losses(mlm=Plain(1.0), nsp=Plain(1.0)),
        'sop': Losses(mlm=Plain(1.0), sop=Plain(1.0)),
    }
    variants = {
        pairs: Variant(
            title,
            dataclasses.replace(base, losses=losses[pairs], data=dataclasses.replace(base.data, pairs=pairs)),
            {'MLM accuracy (%)': mlm, **own, **scores(ALBERT_COLUMNS, known)},
        )
        for pairs, (title, mlm, own, known) in PUBLISHED.items()
    }
    return papers.study(
        'albert_sentence_loss',
        f'ALBERT, sentence losses ({size})',
        'Lan et al. 2020, Table 5',
        variants,
        papers.downstream(size, ALBERT_TASKS, 'albert', finetune),
        papers.seeds(size),
        claims=(
            Claim(
                'sentence order is the harder question: the accuracy of {a} on its pairs is below that of {b} on its own',
                ('sop', 'metrics:dev/sop_accuracy'),
                ('nsp', 'metrics:dev/nsp_accuracy'),
            ),
        ),
        columns=(
            COLUMNS['mlm'],
            COLUMNS['mlm_accuracy'],
            Column('NSP accuracy (%)', 'nsp', 'metrics:dev/nsp_accuracy', 'percent', note='of the model trained on these pairs'),
            Column('SOP accuracy (%)', 'sop', 'metrics:dev/sop_accuracy', 'percent', note='of the model trained on these pairs'),
        ),
        roles={'nsp': 'nsp', 'sop': 'sop'},
    )
