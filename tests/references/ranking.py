"""CMC, plain AP and INP by sorting each gallery, one query at a time."""


def rank(similarity, query_ids, gallery_ids, query_cameras, gallery_cameras, protocol, ranks, drawn=None, own=None):
    """`drawn`: camera of the query → the only gallery rows there are, where a protocol draws them.

    `own`: query → gallery rows that are the query itself.
    """
    cmc, average, penalty = [], [], []
    for q in range(len(query_ids)):
        rows = []
        for g in range(len(gallery_ids)):
            same_camera = protocol != "no-camera" and gallery_cameras[g] == query_cameras[q]
            same_person = gallery_ids[g] == query_ids[q]
            if gallery_ids[g] < 0 or (same_camera and (same_person or protocol == "cross-camera")):
                continue
            if drawn is not None and g not in drawn[query_cameras[q]]:
                continue
            if own is not None and g in own.get(q, ()):
                continue
            rows.append((-similarity[q][g], same_person))  # of equal similarity, wrong answers come first
        rows.sort()
        hits = [n + 1 for n, (_, hit) in enumerate(rows) if hit and query_ids[q] >= 0]
        if not hits:
            average.append(None)
            penalty.append(None)
            continue
        average.append(sum((k + 1) / at for k, at in enumerate(hits)) / len(hits))
        penalty.append(len(hits) / hits[-1])
        cmc.append([float(hits[0] <= k + 1) for k in range(ranks)])
    mean_cmc = [sum(column) / len(cmc) for column in zip(*cmc, strict=True)] if cmc else None
    return mean_cmc, average, penalty
