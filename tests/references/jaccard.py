"""k-reciprocal Jaccard distance of all pairs, as the public code of SpCL and Cluster Contrast loops over rows."""

import numpy as np


def jaccard(features, k1, k2):
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    n = len(features)
    cosine = features @ features.T
    order = np.argsort(-cosine, axis=1, kind="stable")[:, :k1]

    def mutual(i, k):
        forward = order[i, : k + 1]
        return [j for j in forward if i in order[j, : k + 1]]

    weights = np.zeros((n, n))
    for i in range(n):
        mine = mutual(i, k1)
        wider = set(mine)
        for j in mine:
            theirs = mutual(j, int(np.around(k1 / 2)))
            if len(set(theirs) & set(mine)) > 2 / 3 * len(theirs):
                wider |= set(theirs)
        wider = sorted(wider)
        shares = np.exp(-(2 - 2 * cosine[i, wider]))
        weights[i, wider] = shares / shares.sum()
    if k2 > 1:
        weights = np.stack([weights[order[i, :k2]].mean(0) for i in range(n)])
    out = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            common = np.minimum(weights[i], weights[j]).sum()
            out[i, j] = max(0.0, 1 - common / (2 - common))
    return out
