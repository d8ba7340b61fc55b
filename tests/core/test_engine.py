from reappear.core import LOCAL, Engine


def _add(shared: int, item: int) -> int:
    return shared + item


def test_results_are_ordered_and_lazy():
    taken = []

    def items():
        for item in (3, 1, 2):
            taken.append(item)
            yield item

    results = LOCAL.map(_add, 10, items())
    assert isinstance(LOCAL, Engine)
    assert next(results) == 13
    assert taken == [3]
    assert list(results) == [11, 12]
