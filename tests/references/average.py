"""Average linkage of normalised similarities as slow loops: one pair of clusters at a time, the most similar of all."""

import math


def center_by_place(rows, place, prior):
    """Each row less the mean of its place, which is drawn towards the mean of all, as a unit row."""
    width = len(rows[0])
    mean = [sum(row[k] for row in rows) / len(rows) for k in range(width)]
    out = []
    for row, mine in zip(rows, place, strict=True):
        here = [other for other, there in zip(rows, place, strict=True) if there == mine]
        middle = [(sum(o[k] for o in here) + prior * mean[k]) / (len(here) + prior) for k in range(width)]
        less = [v - m for v, m in zip(row, middle, strict=True)] if any(row) else list(row)
        norm = math.sqrt(sum(v * v for v in less))
        out.append([v / norm for v in less] if norm > 1e-5 else [0.0] * width)
    return out


def nearest(cosine, k, reach):
    """The k nearest others of each node, nearest first, of equal ones the lowest first."""
    count = len(cosine)
    return [
        sorted((j for j in range(count) if j != i and abs(i - j) <= reach), key=lambda j, i=i: (-cosine[i][j], j))[:k]
        for i in range(count)
    ]


def neighborhood(similarities):
    """Mean and standard deviation, at least a thousandth."""
    mean = sum(similarities) / len(similarities)
    return mean, max(1e-3, math.sqrt(sum((c - mean) ** 2 for c in similarities) / len(similarities)))


def similarity(cosine, mean, deviation):
    """½[(c − μᵢ)/sᵢ + (c − μⱼ)/sⱼ] of all pairs."""
    nodes = range(len(cosine))
    return [
        [((cosine[i][j] - mean[i]) / deviation[i] + (cosine[i][j] - mean[j]) / deviation[j]) / 2 for j in nodes]
        for i in nodes
    ]


def tree(z, least, cannot_link=()):
    """Merges the most similar clusters, of equally similar ones those with the lowest nodes; refused ones never.

    Returns:
        The clusters as sets.
    """
    cannot_link = {frozenset(pair) for pair in cannot_link}
    clusters = {i: [i] for i in range(len(z))}
    total = {(i, j): z[i][j] for i in clusters for j in clusters if i < j}
    barred = {pair: frozenset(pair) in cannot_link for pair in total}

    def mean(pair):
        return round(total[pair] / (len(clusters[pair[0]]) * len(clusters[pair[1]])), 6)

    while True:
        open_pairs = [pair for pair in total if not barred[pair] and mean(pair) >= least]
        if not open_pairs:
            return {frozenset(nodes) for nodes in clusters.values()}
        a, b = min(open_pairs, key=lambda pair: (-mean(pair), pair))
        for other in clusters:
            if other not in (a, b):
                mine, gone = (min(a, other), max(a, other)), (min(b, other), max(b, other))
                total[mine] += total.pop(gone)
                barred[mine] |= barred.pop(gone)
        total.pop((a, b)), barred.pop((a, b))
        clusters[a] += clusters.pop(b)


def near_groups(near, size):
    """Groups join that of their nearest neighbour, until there are `size` nodes in each on average.

    Args:
        near: The neighbours of each node and their similarities, the nearest first.
        size: The average.
    """
    groups = [{i} for i in range(len(near))]
    while len(near) < size * len(groups):
        best = []
        for group in groups:
            outside = [(-c, i, place) for i in group for place, (j, c) in enumerate(near[i]) if j not in group]
            best += [(i, near[i][place][0]) for _, i, place in sorted(outside)[:1]]
        before = len(groups)
        for a, b in best:
            one, other = (next(group for group in groups if node in group) for node in (a, b))
            if one is not other:
                groups = [group for group in groups if group is not one and group is not other] + [one | other]
        if len(groups) == before:
            break
    return {frozenset(group) for group in groups}
