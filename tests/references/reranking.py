"""k-reciprocal re-ranking by dense matrices and loops, image by image (Zhong et al. 2017)."""

import numpy as np


def rerank(query, gallery, k1, k2, weight):
    features = np.concatenate([query, gallery]).astype(np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    n, asked = len(features), len(query)
    original = np.empty((n, n))
    for i in range(n):
        original[i] = ((features - features[i]) ** 2).sum(1)
        original[i] /= original[i].max()
    order = np.argsort(original, axis=1, kind="stable")

    def mutual(i, k):
        return [j for j in order[i, : k + 1] if i in order[j, : k + 1]]

    encoded = np.zeros((n, n))
    for i in range(n):
        mine = mutual(i, k1)
        wider = set(mine)
        for j in mine:
            theirs = mutual(j, int(np.around(k1 / 2)))
            if len(set(theirs) & set(mine)) > 2 / 3 * len(theirs):
                wider |= set(theirs)
        for j in wider:
            encoded[i, j] = np.exp(-original[i, j])
        encoded[i] /= encoded[i].sum()
    if k2 > 1:
        encoded = np.stack([encoded[order[i, :k2]].mean(0) for i in range(n)])
    final = np.empty((asked, n - asked))
    for q in range(asked):
        for g in range(asked, n):
            common = np.minimum(encoded[q], encoded[g]).sum()
            final[q, g - asked] = (1 - weight) * (1 - common / (2 - common)) + weight * original[q, g]
    return final
