import numpy as np
import torch

from seqssvae.inference.writing.noise import NOISE_STEPS, Noise, standard_normal


def test_a_stream_depends_on_the_seed_and_its_number_alone() -> None:
    both, last = Noise(3, [0, 7]), Noise(3, [7])
    for step in range(2 * NOISE_STEPS):
        of_both = both.uniform(torch.tensor([0, 1]), step)
        assert of_both[1] == last.uniform(torch.tensor([0]), step)[0] != of_both[0]
    normal = standard_normal(3, range(5), 2)
    np.testing.assert_array_equal(standard_normal(3, [4], 2)[0], normal[4])
    assert len(np.unique(normal)) == 10 and (standard_normal(4, [4], 2)[0] != normal[4]).all()
