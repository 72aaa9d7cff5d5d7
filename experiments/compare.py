"""BERT, DistilBERT and ALBERT side by side, under four budgets: their goals, their savings and the price of these.

    python launch.py --config=experiments/compare.py:small --config.data.source='jsonl:books.jsonl.xz' \
        --config.data.folder=…/glue       (for SST-2 at `small`; without it TFDS fetches SST-2)

Hypothesis: DistilBERT keeps most of BERT's score at half its latency; ALBERT keeps most of it with a fraction of its parameters,
but is no faster at inference. Refuted if the last columns of the table contradict it.

"Equal" is four questions, a size each; costs are predicted from the definitions, before anything trains:

- `small`: equal steps of equal batches (`paper`: as published). The distilled model has its teacher's training besides.
- `small-flops`: equal FLOPs of training, BERT's (`research.costs`). Half of DistilBERT's go to a teacher of its own, BERT's shape;
  the rest to the student's steps, each with a pass of the teacher. ALBERT takes the steps that its FLOPs allow.
- `small-parameters`: equal parameters of the encoder, DistilBERT's: a BERT that is narrower, an ALBERT that is wider; equal steps.
  DistilBERT's teacher is BERT's full shape: it is not kept.
- `small-latency`: equal latency, DistilBERT's, predicted as the FLOPs of a forward pass of one sequence: a BERT and an ALBERT with
  fewer layers; equal steps. The last column is the latency measured.
"""

import dataclasses
from collections.abc import Callable, Mapping

from configs import albert, bert, distilbert
from experiments.budgets import count_step_flops, count_training_flops
from experiments.papers import SCALES, Question, Variant, load_recipe, make_study, reshape, scale_down
from research import costs
from research.experiment import Experiment
from research.models.architecture import Architecture
from research.study.columns import COLUMNS
from research.study.study import Claim, Setting, Study

TASKS = ('mnli', 'qqp', 'qnli', 'sst2', 'cola', 'stsb', 'mrpc', 'rte')  # GLUE's, as Devlin et al. 2019 count
GOALS = {  # variant -> title, millions of parameters as published, goal, method
    'bert': ('BERT', 108.0, 'a good encoder', 'masked words'),
    'distilbert': ('DistilBERT', 66.0, 'faster and smaller', 'half the layers, distilled from BERT'),
    'albert': ('ALBERT', 12.0, 'fewer parameters', 'layers share weights, embeddings are factorised'),
}
PAIRS = {'none': '', 'nsp': ', next sentences', 'sop': ', sentence order'}  # data.pairs -> what it adds to the method
SHAPES = {'bert': (12, 768), 'distilbert': (6, 768), 'albert': (12, 768)}  # layers and width, as published
FASTER = Claim(
    'DistilBERT is faster: the latency at batch 1 of {a} is below that of {b}',
    ('distilbert', 'latency_seconds'),
    ('bert', 'latency_seconds'),
)
SMALLER = Claim(
    'ALBERT is smaller: the parameters of {a} are below those of {b}',
    ('albert', 'parameters:encoder'),
    ('bert', 'parameters:encoder'),
)
TEACHER_SHARE = 0.5  # of DistilBERT's FLOPs
Models = dict[str, Experiment]


def get_study(size: str = 'small') -> Study:
    """One model of each family, the same corpus, the same tokenizer, the same tasks."""
    scale, _, budget = size.partition('-')
    make, title, claims = BUDGETS[budget]
    models = make(scale)
    variants = {}
    for key, (name, millions, goal, method) in GOALS.items():
        x = models[key]
        facts = {
            'Goal': goal,
            'Method': method + PAIRS[x.data.pairs],
            'Layers': str(x.model.layers),
            'Width': str(x.model.width),
            'Steps': f'{x.run.epochs:g} epochs' if x.run.epochs else f'{x.run.steps:,}',
        }
        if not x.run.epochs:
            facts['Training TFLOPs'] = f'{count_training_flops(key, models) / 1e12:,.3g}'
        variants[key] = Variant(name, x, {} if budget else {'Parameters (M)': millions}, facts, SHAPES[key])
    question = Question(
        name='compare' + (f'-{budget}' if budget else ''),
        title=f'BERT, DistilBERT and ALBERT at {title}',
        source='the base models of Devlin et al. 2019, Sanh et al. 2019 and Lan et al. 2020',
        variants=variants,
        tasks=TASKS,
        family='bert',
        averaged=TASKS,
        claims=claims,
        columns=(COLUMNS['gain'],),
        setting=Setting(),
        relative='BERT',
        helpers={key: x for key, x in models.items() if key not in GOALS},
    )
    return make_study(question, scale)


# ---- Budgets --------------------------------------------------------------------------------------------------------------------


def spend_steps(scale: str) -> Models:
    """The pretraining of each family; the student and the ALBERT have BERT's tokenizer."""
    first = scale_down(load_recipe(bert, 'base'), scale)
    student = scale_down(load_recipe(distilbert, 'base'), scale)
    half = dataclasses.replace(student.model, layers=first.model.layers // 2)
    shared = scale_down(load_recipe(albert, 'base'), scale)
    vocabulary = dataclasses.replace(shared.model, vocabulary=first.model.vocabulary)
    return {
        'bert': first,
        'distilbert': dataclasses.replace(student, teacher='@bert', model=half),
        'albert': dataclasses.replace(shared, model=vocabulary, data=dataclasses.replace(shared.data, tokenizer='@bert')),
    }


def spend_flops(scale: str) -> Models:
    """Models that take as many FLOPs to train as BERT does, DistilBERT with those of a teacher of its own."""
    models = add_teacher(spend_steps(scale))
    first = models['bert']
    models['teacher'] = take_steps(models['teacher'], TEACHER_SHARE * first.run.steps)
    whole = count_training_flops('bert', models)
    rest = whole - count_training_flops('teacher', models)
    models['distilbert'] = take_steps(models['distilbert'], rest / count_step_flops(models['distilbert'], models))
    models['albert'] = take_steps(models['albert'], whole / count_step_flops(models['albert'], models))
    return models


def spend_parameters(scale: str) -> Models:
    """Models whose encoders have as many parameters as DistilBERT's: BERT's and ALBERT's width, and for the rest the inner one."""
    models = add_teacher(spend_steps(scale))
    wanted = count_parameters(models['distilbert'].model)
    for key in ('bert', 'albert'):
        step = models[key].model.heads
        models[key] = fit(models[key], set_width, range(step, 8 * models[key].model.width, step), count_parameters, wanted)
        inner = models[key].model.inner
        models[key] = fit(models[key], set_inner, range(inner // 2, 2 * inner), count_parameters, wanted)
    return models


def spend_latency(scale: str) -> Models:
    """Models whose forward pass of one sequence takes as many FLOPs as DistilBERT's: BERT's and ALBERT's depth is changed."""
    models = add_teacher(spend_steps(scale))
    length = models['distilbert'].data.length

    def count(model: Architecture) -> float:
        return costs.count_forward_flops(model, length)

    wanted = count(models['distilbert'].model)
    for key in ('bert', 'albert'):
        models[key] = fit(models[key], set_layers, range(1, models[key].model.layers + 1), count, wanted)
    return models


def add_teacher(models: Models) -> Models:
    """`models` in which DistilBERT's teacher is a run of its own, of BERT's shape and tokenizer."""
    first = models['bert']
    teacher = dataclasses.replace(first, data=dataclasses.replace(first.data, tokenizer='@bert'))
    return {**models, 'teacher': teacher, 'distilbert': dataclasses.replace(models['distilbert'], teacher='@teacher')}


def take_steps(x: Experiment, steps: float) -> Experiment:
    """The experiment with another number of steps."""
    return dataclasses.replace(x, run=dataclasses.replace(x.run, steps=max(round(steps), 1), epochs=0.0))


def set_width(model: Architecture, width: int) -> Architecture:
    """A model of another width, with as many heads."""
    return reshape(model, model.layers, width, model.heads)


def set_inner(model: Architecture, inner: int) -> Architecture:
    """A model of another inner width."""
    return dataclasses.replace(model, inner=inner)


def set_layers(model: Architecture, layers: int) -> Architecture:
    """A model of another depth."""
    return dataclasses.replace(model, layers=layers)


def count_parameters(model: Architecture) -> float:
    """The parameters of the encoder."""
    return costs.summarize_parameters(model)['encoder']


def fit(
    x: Experiment,
    change: Callable[[Architecture, int], Architecture],
    values: range,
    count: Callable[[Architecture], float],
    wanted: float,
) -> Experiment:
    """The experiment whose model, changed to one of `values`, has a `count` nearest to `wanted`."""
    return dataclasses.replace(x, model=min((change(x.model, value) for value in values), key=lambda a: abs(count(a) - wanted)))


# Name -> (the models by name, what is equal in words, the claims that the budget leaves open).
BUDGETS: Mapping[str, tuple[Callable[[str], Models], str, tuple[Claim, ...]]] = {
    '': (spend_steps, 'equal steps', (FASTER, SMALLER)),
    'flops': (spend_flops, 'equal training FLOPs', (FASTER, SMALLER)),
    'parameters': (spend_parameters, 'equal parameters', (FASTER,)),
    'latency': (spend_latency, 'equal latency', (SMALLER,)),
}
SIZES = tuple(f'{scale}-{budget}'.rstrip('-') for budget in BUDGETS for scale in (*SCALES, 'paper'))
