"""What `errata status` says of accuracies."""

import pytest

from errata.status import _accuracies


@pytest.mark.parametrize(
    ("by_dataset", "said"),
    [
        ({}, ""),
        ({"gsm8k": 0.625}, "62.5"),
        ({"arc": 0.4, "gsm8k": 0.625}, "arc 40.0, gsm8k 62.5, mean 51.2"),
        ({"arc": 0.4, "bbh": 0.0, "gsm8k": 0.6, "mmlu": 0.2}, "mean of 4 datasets 30.0"),
    ],
)
def test_an_accuracy_stands_beside_the_name_of_its_dataset(by_dataset, said):
    assert _accuracies(by_dataset) == said
