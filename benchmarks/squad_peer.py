"""An independent version of SQuAD's official metrics, compared with the scores.json of a run to the last digit.

    python benchmarks/squad_peer.py DEV.json RUN/dev

The folder holds predictions.json, scores.json and, for SQuAD 2.0, na_probs.json. Imports nothing from research.
"""

import collections
import json
import re
import string
import sys
from pathlib import Path


def split_words(text: str) -> list[str]:
    """The words of a text without punctuation and articles."""
    kept = ''.join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r'\b(a|an|the)\b', ' ', kept).split()


def word_f1(gold: str, predicted: str, second: bool) -> float:
    """F1 of the words of two answers."""
    one, two = split_words(gold), split_words(predicted)
    if second and (not one or not two):
        return float(one == two)
    same = sum((collections.Counter(one) & collections.Counter(two)).values())
    if same == 0:
        return 0.0
    precision, recall = 1.0 * same / len(two), 1.0 * same / len(one)
    return (2 * precision * recall) / (precision + recall)


def main() -> int:
    """Prints both values of each metric. Returns 1 if any differ."""
    data, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    predicted, ours = (json.loads((folder / name).read_text()) for name in ('predictions.json', 'scores.json'))
    second = (folder / 'na_probs.json').exists()
    asked = [each for article in data['data'] for paragraph in article['paragraphs'] for each in paragraph['qas']]
    exacts, overlaps = {}, {}
    for each in asked:
        golds = [gold['text'] for gold in each['answers']]
        if second:
            golds = [gold for gold in golds if split_words(gold)] or ['']
        exacts[each['id']] = max(int(split_words(gold) == split_words(predicted[each['id']])) for gold in golds)
        overlaps[each['id']] = max(word_f1(gold, predicted[each['id']], second) for gold in golds)
    groups = {'': list(exacts)}
    if second:
        answered = {each['id'] for each in asked if each['answers']}
        groups |= {'HasAns_': [id for id in exacts if id in answered], 'NoAns_': [id for id in exacts if id not in answered]}
    found = {}
    for prefix, ids in groups.items():
        found |= {f'{prefix}exact': 100.0 * sum(exacts[id] for id in ids) / len(ids)}
        found |= {f'{prefix}f1': 100.0 * sum(overlaps[id] for id in ids) / len(ids), f'{prefix}total': len(ids)}
    if second:
        none = json.loads((folder / 'na_probs.json').read_text())
        for name, scores in (('exact', exacts), ('f1', overlaps)):
            current = best = sum(1 for id in scores if id not in answered)
            threshold = 0.0
            for id in sorted(none, key=lambda id: none[id]):
                current += scores[id] if id in answered else (-1 if predicted[id] else 0)
                if current > best:
                    best, threshold = current, none[id]
            found |= {f'best_{name}': 100.0 * best / len(scores), f'best_{name}_thresh': threshold}
    for name, value in found.items():
        print(f'{name:20} {value!r:24} {ours[name]!r:24} {"same" if value == ours[name] else "DIFFERENT"}')
    return int(found != ours)


if __name__ == '__main__':
    sys.exit(main())
