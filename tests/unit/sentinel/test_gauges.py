"""The service's own gauges are read, summed over labels, and may be missing."""

import pytest

from test_framework.sentinel.gauges import sums_of

PAGE = """
# HELP pool_in_use Connections in use.
# TYPE pool_in_use gauge
pool_in_use{worker="1"} 3
pool_in_use{worker="2"} 4.5
# TYPE process_resident_memory_bytes gauge
process_resident_memory_bytes 1.2e+08
# TYPE odd gauge
odd NaN
"""


def test_gauges_are_summed_over_labels() -> None:
    """Several workers' gauges are one number; what is no number is left out."""
    assert sums_of(PAGE) == {
        "pool_in_use": 7.5,
        "process_resident_memory_bytes": 1.2e8,
    }


@pytest.mark.parametrize(
    "page", ["<html>not found</html>", '{"pool": 3}', 'pool{="1"} 3']
)
def test_other_pages_are_refused(page: str) -> None:
    """What is no metrics page gives no gauges, and no wrong ones."""
    with pytest.raises(ValueError, match=r".+"):
        sums_of(page)
