"""Labels as datasets have them."""

import pytest

from uniface_ray.evaluate.labels import read_label


@pytest.mark.parametrize(
    ("attribute", "label", "value"),
    [
        ("gender", "Female", "female"),
        ("gender", "M", "male"),
        ("gender", None, None),
        ("gender", float("nan"), None),
        ("age_group", 34, "young adult"),
        ("age_group", "56.0", "older"),
        ("age_group", 12.9, "child"),
        ("age_group", "middle_aged", "middle-aged"),
        ("age_group", "young_adult", "young adult"),
        ("smile", True, "yes"),
        ("smile", 1.0, "yes"),
        ("smile", -1, "no"),
        ("smile", "0", "no"),
        ("hair_color", "Blonde", "blond"),
        ("hair_color", "unknown", None),
    ],
)
def test_labels_mean_values(attribute: str, label: object, value: str | None) -> None:
    assert read_label(attribute, label) == value


@pytest.mark.parametrize(("attribute", "label"), [("gender", 1), ("age_group", 300), ("smile", "perhaps")])
def test_what_means_no_value_is_told(attribute: str, label: object) -> None:
    with pytest.raises(ValueError, match=f"{attribute} is .* but needs one of"):
        read_label(attribute, label)
