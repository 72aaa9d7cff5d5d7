"""A bag of words: TF-IDF of the words of a text and a linear model, by scikit-learn. It reads no order but that of two words.

Sizes and iterations are bounded, so that tasks of some hundred thousand examples take about a minute on a core; a model that has
not converged by then is a floor all the same. Nothing is tuned: C, the features and the seed are the same for all tasks.
"""

import importlib
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.data.tasks.example import Example

FEATURES = 30_000  # words and pairs of neighbouring words, the commonest of the training texts
WORD = r'(?u)\b\w+\b'
STRENGTH = 10.0  # C of logistic regression, and the inverse of Ridge's alpha: rows of TF-IDF have norm 1, for which 1 is too little
ITERATIONS = 100
LABELS = 200  # more would take minutes
PART = 20_000  # rows whose products are computed at once

Predict = Callable[[Sequence[Example]], NDArray]  # -> of each example the number of its label or candidate, or its score


def _load(name: str) -> Any:
    return importlib.import_module(name)  # when first used: the launcher of a study names floors only


def learn(kind: str, order: Sequence[str], train: Sequence[Example]) -> Predict | str:
    """The predictions of a bag of words learnt from `train`, or why there are none. order: the labels, by their numbers."""
    if kind not in LEARN:
        return f'an answer of kind {kind} is a place in a text, which a bag of words does not have; compare with baseline:random'
    if kind == 'label' and len({example.label for example in train}) < 2:
        return 'the training examples have one label only'
    if len(order) > LABELS:
        return f'the task has {len(order)} labels, more than {LABELS}'
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', _load('sklearn.exceptions').ConvergenceWarning)
            return LEARN[kind](order, train)
    except ValueError as error:
        if 'empty vocabulary' in str(error):
            return 'the training texts hold no words'
        raise


def make_vectorizer(texts: Sequence[str], longest: int) -> Any:
    """The TF-IDF of words, and of up to `longest` neighbouring ones, fitted to `texts`."""
    found = _load('sklearn.feature_extraction.text').TfidfVectorizer(
        token_pattern=WORD, ngram_range=(1, longest), max_features=FEATURES, sublinear_tf=True
    )
    return found.fit(texts)


def classify(features: Any, targets: NDArray) -> Any:
    """Logistic regression of the classes `targets`."""
    model = _load('sklearn.linear_model').LogisticRegression(C=STRENGTH, max_iter=ITERATIONS, random_state=0)
    return model.fit(features, targets)


def read_texts(train: Sequence[Example]) -> Callable[[Sequence[Example]], Any]:
    """The features of examples [N, F]: of one text its words and pairs of words.

    Of two texts the words of each, their products, which say what both hold, and the cosine of the two.
    """
    paired = any(example.pair for example in train)
    texts = [example.text for example in train]
    if not paired:
        vectorizer = make_vectorizer(texts, 2)
        return lambda members: vectorizer.transform([example.text for example in members])
    vectorizer = make_vectorizer([*texts, *(example.pair for example in train)], 1)

    def read(members: Sequence[Example]) -> Any:
        one = vectorizer.transform([example.text for example in members])
        two = vectorizer.transform([example.pair for example in members])
        both = one.multiply(two).tocsr()
        return stack([one, two, both, add_up(both)])

    return read


def stack(columns: Sequence[Any]) -> Any:
    """Sparse matrices side by side."""
    return _load('scipy.sparse').hstack(columns, format='csr')


def add_up(products: Any) -> Any:
    """The sum of each row, as a sparse column: of products of two rows of norm 1 it is their cosine."""
    return _load('scipy.sparse').csr_matrix(products.sum(axis=1))


def learn_labels(order: Sequence[str], train: Sequence[Example]) -> Predict:
    """The most probable label by logistic regression."""
    read = read_texts(train)
    model = classify(read(train), np.array([order.index(example.label) for example in train]))
    return lambda members: model.predict(read(members))


def learn_scores(order: Sequence[str], train: Sequence[Example]) -> Predict:
    """The score by ridge regression."""
    del order
    read = read_texts(train)
    model = _load('sklearn.linear_model').Ridge(1 / STRENGTH, solver='sparse_cg', max_iter=ITERATIONS, random_state=0)
    model.fit(read(train), np.array([example.score for example in train], float))
    return lambda members: model.predict(read(members))


def learn_choices(order: Sequence[str], train: Sequence[Example]) -> Predict:
    """The candidate that logistic regression finds most probably right.

    Each is judged alone: by its words, and by those that it shares with the context and with the question.
    """
    texts = [*dict.fromkeys(example.text for example in train), *(example.pair for example in train)]
    vectorizer = make_vectorizer([*texts, *(option for example in train for option in example.options)], 1)

    def read(members: Sequence[Example]) -> Any:
        contexts = {text: number for number, text in enumerate(dict.fromkeys(example.text for example in members))}
        context, asked = vectorizer.transform(list(contexts)), vectorizer.transform([example.pair for example in members])
        at = np.array([contexts[example.text] for example in members for _ in example.options])
        owner = np.array([number for number, example in enumerate(members) for _ in example.options])
        options = vectorizer.transform([option for example in members for option in example.options])
        parts = []
        for begin in range(0, len(at), PART):
            rows = slice(begin, begin + PART)
            shared = [options[rows].multiply(side).tocsr() for side in (context[at[rows]], asked[owner[rows]])]
            parts.append(stack([options[rows], *shared, *map(add_up, shared)]))
        return _load('scipy.sparse').vstack(parts, format='csr')

    right = np.array([order[number] == example.label for example in train for number in range(len(example.options))])
    model = classify(read(train), right.astype(int))
    return lambda members: model.decision_function(read(members)).reshape(len(members), -1).argmax(1)


# Kind of a task -> (labels, training examples) -> its predictions.
LEARN: dict[str, Callable[[Sequence[str], Sequence[Example]], Predict]] = {
    'label': learn_labels,
    'score': learn_scores,
    'choice': learn_choices,
}
