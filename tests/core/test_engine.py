from reappear.core import LOCAL, Engine


def _add(shared: int, item: int) -> int:
    return shared + item


def test_results_come_in_the_order_of_the_items_as_the_work_goes_on():
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
