"""BERT, DistilBERT and ALBERT side by side: their goals, their savings and the price of these.

    python launch.py --config=experiments/compare.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: DistilBERT keeps most of BERT's score at half its latency; ALBERT keeps most of it with a fraction of its parameters,
but is no faster at inference. Refuted if the last columns of the table contradict it.
"""

import dataclasses

from configs import albert, bert, distilbert
from experiments import papers
from experiments.papers import Question, Variant, load_recipe
from research.experiment import Experiment
from research.study.study import Claim, Study

SIZES = papers.SIZES
TASKS = ('mnli', 'qqp', 'qnli', 'sst2', 'cola', 'stsb', 'mrpc', 'rte')  # GLUE's, as Devlin et al. 2019 count


GOALS = {  # variant -> title, millions of parameters as published, goal, method
    'bert': ('BERT', 108.0, 'a good encoder', 'masked words and next sentences'),
    'distilbert': ('DistilBERT', 66.0, 'faster and smaller', 'half the layers, distilled from BERT'),
    'albert': ('ALBERT', 12.0, 'fewer parameters', 'layers share weights, embeddings are factorised, sentence order'),
}
CLAIMS = (
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
)


def get_study(size: str = 'small') -> Study:
    """One model of each family, the same corpus, the same tokenizer, the same tasks."""
    variants = {}
    for key, x in make_models(size).items():
        title, millions, goal, method = GOALS[key]
        facts = {'Goal': goal, 'Method': method, 'Layers': str(x.model.layers)}
        variants[key] = Variant(title, x, {'Parameters (M)': millions}, facts)
    question = Question(
        name='compare',
        title='BERT, DistilBERT and ALBERT',
        source='the base models of Devlin et al. 2019, Sanh et al. 2019 and Lan et al. 2020',
        variants=variants,
        tasks=TASKS,
        family='bert',
        averaged=TASKS,
        claims=CLAIMS,
        columns=(),  # no MLM loss: each model is measured under its own masks, which do not compare
        relative='BERT',
    )
    return papers.make_study(question, size)


def make_models(size: str) -> dict[str, Experiment]:
    """The pretraining of each family at a size; the student and the ALBERT have BERT's tokenizer."""
    first = papers.scale_down(load_recipe(bert, 'base'), size)
    student = papers.scale_down(load_recipe(distilbert, 'base'), size)
    half = dataclasses.replace(student.model, layers=first.model.layers // 2)
    shared = papers.scale_down(load_recipe(albert, 'base'), size)
    vocabulary = dataclasses.replace(shared.model, vocabulary=first.model.vocabulary)
    return {
        'bert': first,
        'distilbert': dataclasses.replace(student, teacher='@bert', model=half),
        'albert': dataclasses.replace(shared, model=vocabulary, data=dataclasses.replace(shared.data, tokenizer='@bert')),
    }
