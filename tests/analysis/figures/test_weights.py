"""First-layer weights as pictures: pixels where they belong, one scale a picture."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.figures.plots import save
from analysis.figures.weights import describe_weights, draw_weights


def planted(units=5, image=(4, 6, 3)):
    """Unit k looks at one pixel alone, with strength k + 1 and alternating sign."""
    weights = np.zeros((*image, units))
    for k in range(units):
        weights[k % 4, k, k % 3, k] = (k + 1) * (-1) ** k
    return weights.reshape(-1, units)


def test_a_pixel_is_where_its_weight_is():
    figure = describe_weights(planted(), (4, 6, 3))
    assert figure.units.tolist() == [4, 3, 2, 1, 0]
    for picture, k in zip(figure.pictures, figure.units, strict=True):
        expected = np.full((4, 6, 3), 0.5)
        expected[k % 4, k, k % 3] = 1.0 if k % 2 == 0 else 0.0
        np.testing.assert_array_equal(picture, expected)


def test_most_units_are_those_of_largest_norm():
    assert describe_weights(planted(), (4, 6, 3), most=2).units.tolist() == [4, 3]


def test_a_unit_of_zeros_is_grey():
    assert (describe_weights(np.zeros((9, 1)), (3, 3, 1)).pictures == 0.5).all()


def test_the_sheet_holds_every_picture_once():
    figure = describe_weights(planted(), (4, 6, 3))
    [sheet] = draw_weights(figure, Figure().add_subplot()).images
    pixels = sheet.get_array()
    assert pixels is not None
    assert pixels.shape == (2 * 5 - 1, 3 * 7 - 1, 3)
    assert pixels[:4, :6].tolist() == figure.pictures[0].tolist()
    assert pixels[5:9, 7:13].tolist() == figure.pictures[4].tolist()


@pytest.mark.parametrize("image", [(4, 6, 1), (4, 6, 2)])
def test_weights_that_are_no_pictures_are_refused(image):
    inputs = 72 if image[2] == 1 else 48
    with pytest.raises(ValueError, match=r"expected \[24, units\]|images have 2 channels"):
        describe_weights(np.ones((inputs, 3)), image)


def test_it_is_saved(tmp_path):
    [path] = save(describe_weights(planted(), (4, 6, 3)), tmp_path / "w", ("png",), draw=draw_weights)
    assert path.stat().st_size > 1000
