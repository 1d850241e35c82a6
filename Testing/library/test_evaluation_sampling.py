"""What evaluate draws from a cohort: the partner of a splice is a held-out subject, for copies and controls alike."""

import numpy as np
import pytest
from memorization_index import MemorizationIndexError
from memorization_index.evaluation.sampling import Chosen, augmented
from memorization_index.slices import SliceStack


def flat(subject: str, level: float) -> Chosen:
    images = [np.full((40, 40), level, np.float32)] * 2
    return Chosen(subject, subject, SliceStack(images, (1.0, 1.0), np.arange(2), 2, "axial"))


def test_what_is_mixed_in_comes_from_a_held_out_subject():
    training, novel = [flat("t1", 0.2), flat("t2", 0.2), flat("t3", 0.2)], [flat("n1", 0.8), flat("n2", 1.0)]
    copies = [q.stack.images[0] for q in augmented(training, "blend_50", [0, 0], novel)]
    levels = [float(image.mean()) for image in copies]
    np.testing.assert_allclose(levels, [0.5, 0.6, 0.5], atol=1e-6)  # half 0.2, half 0.8 or 1.0: never another 0.2
    controls = [float(q.stack.images[0].mean()) for q in augmented(novel, "blend_50", [0, 0], novel)]
    np.testing.assert_allclose(controls, [0.9, 0.9], atol=1e-6)  # never with themselves


def test_one_held_out_subject_cannot_be_mixed_with_another():
    with pytest.raises(MemorizationIndexError, match="at least 2"):
        list(augmented([flat("n1", 0.8)], "splice_40", [0, 0], [flat("n1", 0.8)]))


def test_copies_and_controls_get_the_same_draw():
    image = np.random.default_rng(0).random((40, 40)).astype(np.float32)
    one = Chosen("a", "a", SliceStack([image], (1.0, 1.0), np.arange(1), 1, "axial"))
    other = Chosen("b", "b", one.stack)
    first, second = (next(augmented([c], "rotation_5", [3, 1], [c])).stack.images[0] for c in (one, other))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, image)


def test_the_adjacent_slice_is_half_way_to_the_next_one_of_the_same_volume():
    one = flat("t1", 0.2)
    volume = Chosen(one.name, one.subject, one.stack, [np.full((40, 40), level, np.float32) for level in (0.4, 0.6)])
    (query,) = augmented([volume], "adjacent", [0, 0], [flat("n1", 0.8)])
    np.testing.assert_allclose([image.mean() for image in query.stack.images], [0.3, 0.4], atol=1e-6)
    with pytest.raises(MemorizationIndexError, match="no slice beside it"):
        list(augmented([one], "adjacent", [0, 0], [one]))
