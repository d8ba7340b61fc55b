"""Pairwise and B-cubed scores by looking at all pairs of crops; -1 = no person, or discarded."""


def same_person(truth, i, j):
    return i == j or (truth[i] == truth[j] and truth[i] >= 0)


def same_identity(found, i, j):
    return found[i] == found[j] and found[i] >= 0


def pairwise(truth, found):
    pairs = [(i, j) for i in range(len(truth)) for j in range(i)]
    together = [p for p in pairs if same_identity(found, *p)]
    same = [p for p in pairs if same_person(truth, *p)]
    right = [p for p in together if same_person(truth, *p)]
    return (len(right) / len(together) if together else 1.0, len(right) / len(same) if same else 1.0)


def bcubed(truth, found):
    crops = range(len(truth))
    precision, recall = [], []
    for i in crops:
        if found[i] >= 0:
            mates = [j for j in crops if same_identity(found, i, j)]
            precision.append(sum(same_person(truth, i, j) for j in mates) / len(mates))
        if truth[i] >= 0:
            own = [j for j in crops if same_person(truth, i, j)]
            recall.append(sum(same_identity(found, i, j) for j in own) / len(own))
    return sum(precision) / len(precision), sum(recall) / len(recall)
