"""How much of BERT is left in half its layers? Sanh et al. 2019, Tables 1 to 3.

    python launch.py --config=experiments/distilbert_glue.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: a student of half the depth keeps 97 % of its teacher's score, has 60 % of its parameters and is 60 % faster at batch 1;
the same student without a teacher keeps less. Refuted if the ratio of scores, the checkpoint or the latency contradicts it.
If SQuAD is among the tasks, the student is also distilled on it from the fine-tuned teacher, as (D) of Table 2.
"""

import dataclasses

from configs import bert, distilbert
from experiments import papers
from experiments.papers import Question, Variant, load_recipe, parse_scores
from experiments.task_distillation import TAUGHT
from research.objectives.losses import Losses, Mlm
from research.study.study import Claim, Row, Study

SIZES = papers.SIZES
NINE = ('cola', 'mnli', 'mrpc', 'qnli', 'qqp', 'rte', 'sst2', 'stsb', 'wnli')  # Avg is Table 1's Score
TASKS = (*NINE, 'imdb', 'squad')
COLUMNS = ('CoLA', 'MNLI', 'MRPC', 'QNLI', 'QQP', 'RTE', 'SST-2', 'STS-B', 'WNLI', 'IMDb', 'SQuAD1.1', 'Avg', 'Parameters (M)')
# MNLI of BERT-base is that of the authors' README, which the printed Score fits; the paper prints 86.7. SQuAD is F1/EM.
PUBLISHED = {
    'bert': '56.3 84.7 88.6 91.8 89.6 69.3 92.7 89.0 53.5 93.46 88.5/81.2 79.5 110',
    'distilbert': '51.3 82.2 87.5 89.2 88.5 59.9 91.3 86.9 56.3 92.82 85.8/77.7 77.0 66',
}


def get_study(size: str = 'small') -> Study:
    """A teacher, the student distilled from it, and the same student alone."""
    teacher = papers.scale_down(load_recipe(bert, 'base'), size)
    student = papers.scale_down(load_recipe(distilbert, 'base'), size)
    half = dataclasses.replace(student.model, layers=teacher.model.layers // 2)
    student = dataclasses.replace(student, teacher='@bert', model=half)
    data = dataclasses.replace(student.data, tokenizer='@bert')
    alone = dataclasses.replace(student, teacher='', start='', losses=Losses(mlm=Mlm(1.0)), data=data)
    titles = {'bert': 'BERT', 'distilbert': 'DistilBERT', 'alone': 'the student without a teacher'}
    variants = {
        key: Variant(titles[key], x, parse_scores(COLUMNS, PUBLISHED[key]) if key in PUBLISHED else {})
        for key, x in (('bert', teacher), ('distilbert', student), ('alone', alone))
    }
    found = papers.make_study(
        Question(
            name='distilbert_glue',
            title='DistilBERT on GLUE',
            source='Sanh et al. 2019, Tables 1 to 3',
            variants=variants,
            tasks=TASKS,
            family='distilbert',
            claims=(
                Claim(
                    'the teacher helps: the held-out MLM loss of {a} is below that of {b}',
                    ('distilbert', 'metrics:dev/mlm'),
                    ('alone', 'metrics:dev/mlm'),
                ),
                Claim(
                    'half the layers are faster: the latency at batch 1 of {a} is below that of {b}',
                    ('distilbert', 'latency_seconds'),
                    ('bert', 'latency_seconds'),
                ),
            ),
            averaged=NINE,
            relative='BERT',
            note='The students are measured under their own masks, so that their MLM numbers do not compare with the teacher’s.',
        ),
        size,
    )
    return add_second_step(found, papers.count_seeds(size)) if 'squad' in found.table.rows[0].runs else found


def add_second_step(study: Study, seeds: int) -> Study:
    """The study with two more rows: the student distilled on SQuAD from the teacher's first run of it; and ELMo, as published."""
    runs = dict(study.runs)
    names = tuple(f'distilbert-squad-taught-{seed}' for seed in range(seeds))
    for seed, name in enumerate(names):
        alone = runs[f'distilbert-squad-{seed}']
        runs[name] = dataclasses.replace(alone, name=name, teacher='@bert-squad-0', losses=TAUGHT['span'])
    rows = (
        *study.table.rows,
        Row('DistilBERT, taught SQuAD (D)', {'squad': names}, {'SQuAD1.1 F1': 86.9, 'SQuAD1.1 EM': 79.1}),
        Row('ELMo', {}, parse_scores((*COLUMNS[:9], *COLUMNS[-2:]), '44.1 68.6 76.6 71.1 86.2 53.4 91.5 70.4 56.3 68.7 180')),
    )
    return dataclasses.replace(study, runs=runs, table=dataclasses.replace(study.table, rows=rows))
