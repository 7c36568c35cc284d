"""Graded coverage straight from its definitions: loops over pairs, votes and cells of a matrix.

``train`` maps input tuples to answers; ``noise`` is the share of wrong labels and the number of
answers. A slot set's ``prior`` and ``chance`` are the share of equal pairs, and how often others
agree in a shared context.
"""

from __future__ import annotations

from itertools import combinations
from math import exp, inf, log, sqrt

from tests.oracles.coverage_bruteforce import behaviours, part, rest


def pair_counts(train, positions):
    """``(agreeing, shared)`` of every pair of different fragments."""
    behaviour, found = behaviours(train, positions), []
    for a, b in combinations(behaviour, 2):
        shared = behaviour[a].keys() & behaviour[b].keys()
        agreeing = sum(behaviour[a][context] == behaviour[b][context] for context in shared)
        found.append((agreeing, len(shared)))
    return found


def differ(rate, answers):
    """The probability that two labels of one true answer are different ones."""
    shown = [1 - rate] + [rate / (answers - 1)] * (answers - 1) if answers > 1 else [1]
    return 1 - sum(p * p for p in shown)


def likelihoods(agreeing, shared, prior, chance, noise):
    """Of what a pair shows, if it is equal and if it is not, times the probability that it is."""
    equal, apart = prior, 1 - prior
    apart_by_label = differ(*noise) if noise[0] else 0.0
    for context in range(shared):
        agrees = context < agreeing
        equal *= 1 - apart_by_label if agrees else apart_by_label
        apart *= chance if agrees else 1 - chance
    return equal, apart


def posterior(agreeing, shared, prior, chance, noise):
    """Bayes' rule."""
    equal, apart = likelihoods(agreeing, shared, prior, chance, noise)
    return equal / (equal + apart)


def log_odds(agreeing, shared, prior, chance, noise):
    equal, apart = likelihoods(agreeing, shared, prior, chance, noise)
    return log(equal / apart) if equal else -inf


def sums(counts):
    """Of all pairs: agreements, shared contexts, and how many pairs would share one.

    The last as if shared contexts were dealt to pairs at random.
    """
    meetings = sum(shared for _, shared in counts)
    sharing = len(counts) * (1 - exp(-meetings / len(counts))) if counts else 0.0
    return sum(agreeing for agreeing, _ in counts), meetings, sharing


def em_step(counts, prior, chance, noise):
    """One round of expectation maximisation; pairs that agree nowhere are unequal."""
    agreements, meetings, sharing = sums(counts)
    equal = equal_agreeing = equal_shared = 0.0
    for agreeing, shared in counts:
        if agreeing:
            p = posterior(agreeing, shared, prior, chance, noise)
            equal += p
            equal_agreeing += p * agreeing
            equal_shared += p * shared
    return equal / sharing, (agreements - equal_agreeing) / max(meetings - equal_shared, 1e-9)


def nats(counts, prior, chance, noise):
    """The expected log-odds in favour of equality, over all pairs that agree somewhere."""
    found = 0.0
    for pair in counts:
        odds = log_odds(*pair, prior, chance, noise)
        if pair[0] and odds > 0:
            found += odds * posterior(*pair, prior, chance, noise)
    return found


def vote_weight(equal, noise):
    """How much likelier the voted answer is than another one, as a log, times ``equal``."""
    rate, answers = noise
    unequal = max(1 - equal, 1e-12) / answers
    voted = equal * (1 - rate) + unequal
    another = (equal * rate / (answers - 1) if answers > 1 else 0) + unequal
    return equal * log(voted / another)


def pairs_of(train, query, positions):
    """``{other: (agreeing, shared)}`` of fragments that agree with the query's."""
    mine, found = part(query, positions), {}
    behaviour = behaviours(train, positions)
    for other, theirs in behaviour.items():
        shared = behaviour.get(mine, {}).keys() & theirs.keys()
        agreeing = sum(behaviour[mine][context] == theirs[context] for context in shared)
        if other != mine and agreeing:
            found[other] = agreeing, len(shared)
    return found


def votes(train, query, positions):
    """``(item, agreeing, shared)`` of the training items that differ from a query in a fragment."""
    pairs = pairs_of(train, query, positions)
    return [
        (item, *pairs[part(item, positions)])
        for item in train
        if rest(item, positions) == rest(query, positions) and part(item, positions) in pairs
    ]


def joint_votes(train, query, positions, equalities, noise, least=0.05):
    """``(item, probability)`` of those that differ at both ``positions`` and all other slots."""
    others = tuple(i for i in range(len(query)) if i not in positions)
    likely = []
    for own in (positions, others):
        chances = {
            other: posterior(*counts, *equalities[own], noise)
            for other, counts in pairs_of(train, query, own).items()
        }
        likely.append({other: p for other, p in chances.items() if p >= least})
    return [
        (item, likely[0][part(item, positions)] * likely[1][part(item, others)])
        for item in train
        if part(item, positions) in likely[0] and part(item, others) in likely[1]
    ]


def support_and_scores(train, query, equalities, shown, noise):
    """What votes for each answer: agreements, and weights; two lists.

    ``equalities`` maps slot sets to ``(prior, chance)``; those in ``shown`` show equal fragments.
    """
    support, scores = [0.0] * noise[1], [0.0] * noise[1]
    for positions, (prior, chance) in equalities.items():
        for item, agreeing, shared in votes(train, query, positions):
            support[train[item]] += agreeing
            equal = posterior(agreeing, shared, prior, chance, noise)
            scores[train[item]] += vote_weight(equal, noise)
        others = tuple(i for i in range(len(query)) if i not in positions)
        if 0 in positions and positions in shown and others in shown:
            for item, equal in joint_votes(train, query, positions, equalities, noise):
                scores[train[item]] += vote_weight(equal, noise)
    return support, scores


def matcher_probability(train, query, scores, sharpness, noise):
    """The softmax of scores over frequencies; of a training item, Bayes' rule by its label."""
    rate, answers = noise
    given = [*train.values()]
    weights = [
        (given.count(answer) + 1)
        / (len(given) + answers)
        * exp(sharpness * (scores[answer] - max(scores)))
        for answer in range(answers)
    ]
    if query in train:
        for answer in range(answers):
            wrong = max(rate, 1e-9) / max(answers - 1, 1)
            weights[answer] *= 1 - rate if answer == train[query] else wrong
    return [weight / sum(weights) for weight in weights]


def similarity(behaviour, contexts, a, b, shows, settings):
    """S of two fragments: how they act, equal tokens, and what all have in common."""
    alike = 0.0
    if shows and a in behaviour and b in behaviour:
        shared = behaviour[a].keys() & behaviour[b].keys()
        agreements = sum(behaviour[a][c] == behaviour[b][c] for c in shared)
        for fragment in (a, b):
            seen = len(behaviour[fragment])
            agreements /= sqrt(seen * seen / contexts + settings.shrinkage)
        alike = agreements
    equal = sum(s == t for s, t in zip(a, b, strict=True)) / len(a)
    return alike + settings.overlap * equal + settings.background


def kernel(train, rows, columns, nats_of, settings):
    """K of items by items, a list of lists; ``nats_of`` what each slot set shows."""
    slots = range(len(next(iter(train))))
    parts = [
        (own, tuple(i for i in slots if i not in own)) for own in nats_of if 0 in own
    ]  # each way to part the slots in two, once
    weights = []
    for both in parts:
        shown = [nats_of[own] for own in both]
        weights.append(sqrt(sum(shown)) if max(shown) >= 1 else 0.0)
    if not any(weights):
        weights = [1.0] * len(parts)
    behaviour = {own: behaviours(train, own) for own in nats_of}
    contexts = {own: len({rest(item, own) for item in train}) for own in nats_of}
    found = [[0.0] * len(columns) for _ in rows]
    for i, x in enumerate(rows):
        for j, y in enumerate(columns):
            for weight, both in zip(weights, parts, strict=True):
                product = weight / sum(weights)
                for own in both if weight else ():
                    known, fragments = (behaviour[own], contexts[own]), (part(x, own), part(y, own))
                    product *= similarity(*known, *fragments, nats_of[own] >= 1, settings)
                    product /= settings.overlap + settings.background
                found[i][j] += product
    return found
