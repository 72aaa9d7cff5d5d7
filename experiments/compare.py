"""BERT, DistilBERT and ALBERT side by side: what each is for, what it saves and what that costs.

    python launch.py --config=experiments/compare.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (the SST-2 of `small`; without it TFDS is asked, over the network)

Hypothesis: DistilBERT keeps most of BERT's score at half its latency; ALBERT keeps most of it with a fraction of its parameters,
but is no faster at inference. Refuted where the last columns of the table say otherwise.
"""

import dataclasses

from configs import albert, bert, distilbert
from experiments import papers
from experiments.papers import Question, Variant, recipe
from research.study.study import Claim, Study

SIZES = papers.SIZES
TASKS = ('mnli', 'qqp', 'qnli', 'sst2', 'cola', 'stsb', 'mrpc', 'rte')  # GLUE's, as Devlin et al. 2019 count


def get_study(size: str = 'small') -> Study:
    """One model of each family, the same corpus, the same tokenizer, the same tasks."""
    first = papers.scaled(recipe(bert, 'base'), size)
    student = papers.scaled(recipe(distilbert, 'base'), size)
    half = dataclasses.replace(student.model, layers=first.model.layers // 2)
    student = dataclasses.replace(student, teacher='@bert', model=half)
    shared = papers.scaled(recipe(albert, 'base'), size)
    vocabulary = dataclasses.replace(shared.model, vocabulary=first.model.vocabulary)
    shared = dataclasses.replace(shared, model=vocabulary, data=dataclasses.replace(shared.data, tokenizer='@bert'))
    goals = {
        'bert': ('BERT', first, 108.0, 'a good encoder', 'masked words and next sentences'),
        'distilbert': ('DistilBERT', student, 66.0, 'faster and smaller', 'half the layers, taught by BERT'),
        'albert': ('ALBERT', shared, 12.0, 'fewer parameters', 'layers share weights, embeddings are factorised, sentence order'),
    }
    variants = {
        key: Variant(
            title,
            x,
            {'Parameters (M)': millions},
            {'Goal': goal, 'Method': method, 'Layers': str(x.model.layers)},
        )
        for key, (title, x, millions, goal, method) in goals.items()
    }
    return papers.make_study(
        Question(
            name='compare',
            title='BERT, DistilBERT and ALBERT',
            source='the base models of Devlin et al. 2019, Sanh et al. 2019 and Lan et al. 2020',
            variants=variants,
            tasks=TASKS,
            family='bert',
            claims=(
                Claim(
                    'DistilBERT is faster: the latency at batch 1 of {a} is below that of {b}',
                    ('distilbert', 'latency_seconds'),
                    ('bert', 'latency_seconds'),
                ),
                Claim(
                    'ALBERT is smaller: the parameters of {a} are below those of {b}',
                    ('albert', 'parameters:encoder'),
                    ('bert', 'parameters:encoder'),
                ),
            ),
            columns=(),  # no MLM loss: each model is measured under its own masks, so that those of two rows would not compare
            averaged=TASKS,
            relative='BERT',
        ),
        size,
    )
