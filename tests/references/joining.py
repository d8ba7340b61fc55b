"""Kruskal's forest with refusals, by looking at all members of both groups for each link; and a link's neighbours."""


def join(count, links, cannot_link, centers=None, limit=2.0):
    """Groups as sets, links kept and links refused, of `links` (first, second, distance) and pairs that cannot link."""
    cannot_link = {frozenset(pair) for pair in cannot_link}
    groups = [{node} for node in range(count)]
    kept, refused = [], []

    def clash(left, right):
        if any(frozenset((a, b)) in cannot_link for a in left for b in right):
            return True
        return centers is not None and any(
            1 - float(centers[a] @ centers[b]) > limit + 1e-6 for a in left for b in right
        )

    for first, second, _ in sorted(links, key=lambda link: (link[2], link[0], link[1])):
        left = next(group for group in groups if first in group)
        right = next(group for group in groups if second in group)
        if left is right:
            continue
        if clash(left, right):
            refused.append((first, second))
        else:
            kept.append((first, second))
            groups.remove(right)
            left |= right
    return groups, kept, refused


def shared(count, links, first, second):
    """Share of the smaller neighbourhood of two linked nodes that is in both; a node is its own neighbour."""
    near = [{node} for node in range(count)]
    for a, b, _ in links:
        near[a].add(b)
        near[b].add(a)
    return len(near[first] & near[second]) / min(len(near[first]), len(near[second]))
